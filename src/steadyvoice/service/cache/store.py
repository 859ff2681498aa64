"""Finished speech on disk: one SQLite file, bounded in size, shared by processes, whole whichever of them dies.

What is half written is rolled back by SQLite. What was damaged afterwards is found by the seal on each entry.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware

FILE_NAME = "speech-1.sqlite3"
"""Each layout has a file of its own, so that an older steadyvoice and a newer one can share a folder."""

_APPLICATION = 0x53564331  # stands in the file's header: this is ours
_LAYOUT = 1
_TABLES = (
    # What changes with every use lies apart from the audio: SQLite writes a changed row anew, all of it.
    "CREATE TABLE audio (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE speech (key TEXT PRIMARY KEY, made REAL NOT NULL, seal INTEGER NOT NULL, account BLOB NOT NULL,"
    " audio INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX by_use ON speech (used)",
)
_PAGE_SIZE = 4096  # bytes
_OVERHEAD = 4 * _PAGE_SIZE  # of an entry: pages that are begun, and the index
_WAL_RESERVE = 64 * 1024  # the log's index, and the heads of its pages
_MAX_ENTRY_BYTES = 32_000_000  # bytes of one entry: half an hour of MP3
_BUSY_TIMEOUT = 0.25  # seconds that one process waits for another's writing
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What is kept under a key; `made` is in seconds since 1970, by the clock of whoever made it."""

    key: str
    made: float
    account: bytes
    audio: bytes

    @property
    def seal(self) -> int:
        """Tells whether all of it is as it was: against accidents, not against forgers, whom the file keeps out."""
        return crc32(self.audio, crc32(self.account, crc32(f"{self.key} {float(self.made)!r}".encode())))


class CacheStore:
    """Gets and puts, from any thread and any process. What it raises is an OSError or an sqlite3.Error.

    `most` bounds the folder, in bytes; what has not been asked for the longest goes first, by count and not by any
    clock. The file is made when it is first needed, for its owner alone.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.path = folder / FILE_NAME
        self.largest = min(most // 8, _MAX_ENTRY_BYTES)
        """Bytes of the largest entry that is taken."""
        self.damaged = 0
        """Entries that were not as they had been put, and files that were no database any more."""
        self._most = most - 2 * self.largest - _WAL_RESERVE  # SQLite's log has the rest
        self._reading, self._writing = _Connection(self), _Connection(self)
        self._asked: dict[str, None] = {}  # since the last writing, the latest last
        self._asking, self._making = threading.Lock(), threading.Lock()
        register_fork_aware(self)

    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """Find what is kept under these keys, whole and as it was put."""
        if not self.path.exists():
            return {}
        with self._healing(), self._reading.held() as db:
            found = [row for key in keys if (row := db.execute(_SELECT_ENTRY, (key,)).fetchone())]
        entries = {key: CacheEntry(key, made, account, audio) for key, made, account, audio, _ in found}
        sound = {key: entries[key] for key, *_, seal in found if entries[key].seal == seal}
        self._note_asked(sound)
        for key in entries.keys() - sound.keys():
            self._throw_away(key)
        return sound

    def put(self, entry: CacheEntry) -> bool:
        """Keep this in place of what was there, unless it is too large: say whether it was kept.

        To make room, what nobody asked for the longest is forgotten.
        """
        size = len(entry.audio) + len(entry.account)
        if size > self.largest:
            return False
        with self._healing(), self._writing.held() as db, _transaction(db):
            self._write_down_asked(db)
            _delete(db, entry.key)
            self._make_room(db, size + _OVERHEAD)
            audio = db.execute("INSERT INTO audio (data) VALUES (?)", (entry.audio,)).lastrowid
            row = (entry.key, entry.made, entry.seal, entry.account, audio, size)
            db.execute(f"INSERT INTO speech VALUES (?, ?, ?, ?, ?, ?, {_NEXT_USE})", row)  # noqa: S608 - a constant
        return True

    def close(self) -> None:
        """Let go of the file. It is opened again when it is needed."""
        self._reading.close()
        self._writing.close()

    @property
    def fork_lock(self) -> threading.Lock:
        """Held while the list of what was asked for changes."""
        return self._asking

    def after_fork(self) -> None:
        """Begin with a lock that nobody holds; the connections part for themselves."""
        self._asking, self._making = threading.Lock(), threading.Lock()

    def opened(self) -> sqlite3.Connection:
        """Make a connection, and the file if there is none. Raises PermissionError if it is not ours."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_file()
        if hasattr(os, "geteuid") and self.path.stat().st_uid != os.geteuid():
            raise PermissionError("it belongs to somebody else, who could put words into your mouth")
        db = self._connected()
        if _pragma(db, "page_count") * _PAGE_SIZE > self._most:  # it may have been allowed more
            self._shrink(db)
            db.close()
            db = self._connected()
        return db

    def _make_file(self) -> None:
        """Make it for its owner alone, unless it is there.

        One that is there must not even be opened: closing it would drop the locks that SQLite holds on it for this
        process's other connection (POSIX), and another process would take the log away from under that.
        """
        with self._making, suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def connect(self) -> sqlite3.Connection:
        """Make a mere connection."""
        return sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)

    def _connected(self) -> sqlite3.Connection:
        db = self.connect()
        try:
            if _pragma(db, "application_id") != _APPLICATION:
                _create_tables(db)
            if _pragma(db, "user_version") != _LAYOUT:
                raise PermissionError("it was laid out by another version")
            db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine may cost entries, but damages none
            db.execute(f"PRAGMA wal_autocheckpoint = {max(4, min(1000, self.largest // 2 // _PAGE_SIZE))}")
            db.execute(f"PRAGMA journal_size_limit = {self.largest}")
            db.execute(f"PRAGMA max_page_count = {self._most // _PAGE_SIZE}")
        except BaseException:
            db.close()
            raise
        return db

    def _shrink(self, db: sqlite3.Connection) -> None:
        with _transaction(db):
            self._make_room(db, 0)
        db.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")

    def _make_room(self, db: sqlite3.Connection, wanted: int) -> None:
        while (missing := _used_bytes(db) + wanted - self._most) > 0:
            oldest = db.execute("SELECT key, size FROM speech ORDER BY used LIMIT 100").fetchall()
            if not oldest:
                return
            for key, size in oldest:
                _delete(db, key)
                missing -= size
                if missing <= 0:
                    break

    def _note_asked(self, keys: dict[str, CacheEntry]) -> None:
        with self._asking:
            for key in keys:
                self._asked.pop(key, None)
                self._asked[key] = None

    def _write_down_asked(self, db: sqlite3.Connection) -> None:
        """Done with the next writing, so that a hit costs none."""
        with self._asking:
            asked, self._asked = self._asked, {}
        for key in asked:
            db.execute(f"UPDATE speech SET used = {_NEXT_USE} WHERE key = ?", (key,))  # noqa: S608 - a constant

    def _throw_away(self, key: str) -> None:
        self.damaged += 1
        with self._healing(), self._writing.held() as db, _transaction(db):
            _delete(db, key)

    @contextmanager
    def _healing(self) -> Iterator[None]:
        """A file that is no database any more is thrown away: it is a cache."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                self.damaged += 1
                self.close()
                for tail in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.remove(f"{self.path}{tail}")
            raise


class _Connection:
    """One connection, for one thread at a time; made anew when its file is not there any more."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._db: sqlite3.Connection | None = None
        self._file = 0
        self._lock = threading.Lock()
        register_fork_aware(self)

    @property
    def fork_lock(self) -> threading.Lock:
        """Held while SQLite works: a fork in the middle would copy the locks that SQLite holds itself."""
        return self._lock

    def after_fork(self) -> None:
        """Use the parent's connection no more: SQLite forbids it, even to close it."""
        if self._db is not None:
            self._leave_behind()
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db is not None and self._file != _inode(self._store.path):
                self._leave_behind()
            if self._db is None:
                self._db = self._store.opened()
                self._file = _inode(self._store.path)
            yield self._db

    def close(self) -> None:
        with self._lock:
            db, self._db = self._db, None
            if db:
                db.close()

    def _leave_behind(self) -> None:
        # Closing it would clean up beside a file that is another's by now.
        keep_until_exit(self._db)
        self._db = None


_NEXT_USE = "(SELECT coalesce(max(used), 0) + 1 FROM speech)"
_SELECT_ENTRY = "SELECT key, made, account, data, seal FROM speech JOIN audio ON audio.id = speech.audio WHERE key = ?"


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _create_tables(db: sqlite3.Connection) -> None:
    """Lay the tables out, unless somebody else was faster. Whoever is killed meanwhile leaves none, and no mark."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and _pragma(db, "application_id") != _APPLICATION:
        raise PermissionError("it is another program's")
    db.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    with _transaction(db):
        if _pragma(db, "application_id") != _APPLICATION:
            for table in _TABLES:
                db.execute(table)
            db.execute(f"PRAGMA user_version = {_LAYOUT}")
            db.execute(f"PRAGMA application_id = {_APPLICATION}")


def _delete(db: sqlite3.Connection, key: str) -> None:
    db.execute("DELETE FROM audio WHERE id = (SELECT audio FROM speech WHERE key = ?)", (key,))
    db.execute("DELETE FROM speech WHERE key = ?", (key,))


def _used_bytes(db: sqlite3.Connection) -> int:
    return (_pragma(db, "page_count") - _pragma(db, "freelist_count")) * _PAGE_SIZE


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
