"""Cache storage: one SQLite file, bounded in size, shared by processes, and consistent whenever one is killed.

An entry holds a packed `Recording` (`service/result.py`). SQLite rolls back what is
half written. Damage done afterwards is detected by the checksum of each entry (decision 16).
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
"""Name of the file. Each layout has its own, so that an older and a newer version can share a folder."""

_APPLICATION = 0x53564331  # in the file's header, marks it as a cache of this library
_LAYOUT = 1
_TABLES = (
    # Columns that change with every use are apart from the audio: SQLite rewrites a changed row as a whole.
    "CREATE TABLE audio (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE speech (key TEXT PRIMARY KEY, made REAL NOT NULL, seal INTEGER NOT NULL, account BLOB NOT NULL,"
    " audio INTEGER NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX by_use ON speech (used)",
)
_PAGE_SIZE = 4096  # bytes
_OVERHEAD = 4 * _PAGE_SIZE  # of an entry: partly filled pages, and the index
_WAL_RESERVE = 64 * 1024  # the index of SQLite's log, and the headers of its pages
_MAX_ENTRY_BYTES = 32_000_000  # bytes of one entry: half an hour of MP3
_BUSY_TIMEOUT = 0.25  # seconds that one process waits for another's write
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Entry under a key; `made` is in seconds since 1970, by the clock of the process that made it."""

    key: str
    made: float
    account: bytes
    audio: bytes

    @property
    def seal(self) -> int:
        """Checksum of the whole entry, against accidents; forgers are kept out by the owner and mode of the file."""
        return crc32(self.audio, crc32(self.account, crc32(f"{self.key} {float(self.made)!r}".encode())))


class CacheStore:
    """Storage of entries, usable from any thread and any process. Raises OSError and sqlite3.Error.

    `max_bytes` bounds the folder in bytes. The least recently used entries are removed first, by a counter and not by a
    clock. The file is created on first use, accessible to its owner only.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.path = folder / FILE_NAME
        self.largest = min(max_bytes // 8, _MAX_ENTRY_BYTES)
        """Bytes of the largest entry that is stored."""
        self.damaged = 0
        """Number of entries with a wrong checksum, and of files that were not a database any more."""
        self._max_bytes = max_bytes - 2 * self.largest - _WAL_RESERVE  # the rest is left to SQLite's log
        self._reading, self._writing = _Connection(self), _Connection(self)
        self._recently_used: dict[str, None] = {}  # keys used since the last write, the latest last
        self._asking, self._making = threading.Lock(), threading.Lock()
        register_fork_aware(self)

    def get(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """Return the entries under these keys whose checksum is right; damaged ones are removed."""
        if not self.path.exists():
            return {}
        with self._healing(), self._reading.held() as db:
            found = [row for key in keys if (row := db.execute(_SELECT_ENTRY, (key,)).fetchone())]
        entries = {key: CacheEntry(key, made, account, audio) for key, made, account, audio, _ in found}
        sound = {key: entries[key] for key, *_, seal in found if entries[key].seal == seal}
        self._note_used(sound)
        for key in entries.keys() - sound.keys():
            self._throw_away(key)
        return sound

    def put(self, entry: CacheEntry) -> bool:
        """Store an entry, replacing one of the same key, and return whether it was small enough.

        The least recently used entries are removed to make room.
        """
        size = len(entry.audio) + len(entry.account)
        if size > self.largest:
            return False
        with self._healing(), self._writing.held() as db, _transaction(db):
            self._write_use_order(db)
            _delete(db, entry.key)
            self._make_room(db, size + _OVERHEAD)
            audio = db.execute("INSERT INTO audio (data) VALUES (?)", (entry.audio,)).lastrowid
            row = (entry.key, entry.made, entry.seal, entry.account, audio, size)
            db.execute(f"INSERT INTO speech VALUES (?, ?, ?, ?, ?, ?, {_NEXT_USE})", row)  # noqa: S608 - a constant
        return True

    def close(self) -> None:
        """Close the file; it is opened again on the next use."""
        self._reading.close()
        self._writing.close()

    @property
    def fork_lock(self) -> threading.Lock:
        """Lock held while the list of used keys changes."""
        return self._asking

    def after_fork(self) -> None:
        """Replace the locks, which another thread of the parent may have held; connections replace themselves."""
        self._asking, self._making = threading.Lock(), threading.Lock()

    def opened(self) -> sqlite3.Connection:
        """Return a new connection, creating the file if necessary. Raises PermissionError for a foreign file."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_file()
        if hasattr(os, "geteuid") and self.path.stat().st_uid != os.geteuid():
            raise PermissionError("the file belongs to another user, who could replace the audio")
        db = self._connected()
        if _pragma(db, "page_count") * _PAGE_SIZE > self._max_bytes:  # the size limit may have been reduced
            self._shrink(db)
            db.close()
            db = self._connected()
        return db

    def _make_file(self) -> None:
        """Create the file for its owner only, unless it exists."""
        # An existing file must not even be opened: by POSIX, closing any descriptor drops all locks of the process on
        # the file, those of SQLite's other connection included, and another process could then remove its log.
        with self._making, suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def connect(self) -> sqlite3.Connection:
        """Return a connection without any checks."""
        return sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)

    def _connected(self) -> sqlite3.Connection:
        db = self.connect()
        try:
            if _pragma(db, "application_id") != _APPLICATION:
                _create_tables(db)
            if _pragma(db, "user_version") != _LAYOUT:
                raise PermissionError("the file has the layout of another version")
            db.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine may lose entries, but damages none
            db.execute(f"PRAGMA wal_autocheckpoint = {max(4, min(1000, self.largest // 2 // _PAGE_SIZE))}")
            db.execute(f"PRAGMA journal_size_limit = {self.largest}")
            db.execute(f"PRAGMA max_page_count = {self._max_bytes // _PAGE_SIZE}")
        except BaseException:
            db.close()
            raise
        return db

    def _shrink(self, db: sqlite3.Connection) -> None:
        with _transaction(db):
            self._make_room(db, 0)
        db.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")

    def _make_room(self, db: sqlite3.Connection, needed_bytes: int) -> None:
        while (missing := _used_bytes(db) + needed_bytes - self._max_bytes) > 0:
            oldest = db.execute("SELECT key, size FROM speech ORDER BY used LIMIT 100").fetchall()
            if not oldest:
                return
            for key, size in oldest:
                _delete(db, key)
                missing -= size
                if missing <= 0:
                    break

    def _note_used(self, keys: dict[str, CacheEntry]) -> None:
        with self._asking:
            for key in keys:
                self._recently_used.pop(key, None)
                self._recently_used[key] = None

    def _write_use_order(self, db: sqlite3.Connection) -> None:
        """Write the order of use with the next entry, so that a hit costs no write."""
        with self._asking:
            used, self._recently_used = self._recently_used, {}
        for key in used:
            db.execute(f"UPDATE speech SET used = {_NEXT_USE} WHERE key = ?", (key,))  # noqa: S608 - a constant

    def _throw_away(self, key: str) -> None:
        self.damaged += 1
        with self._healing(), self._writing.held() as db, _transaction(db):
            _delete(db, key)

    @contextmanager
    def _healing(self) -> Iterator[None]:
        """Remove the file if it turns out not to be a database any more: it is only a cache."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                self._remove_files()
            raise
        except UnicodeDecodeError as error:
            # SQLite's message quotes the damaged schema, and Python fails to decode it instead of raising.
            self._remove_files()
            raise sqlite3.DatabaseError("the schema of the file is damaged") from error

    def _remove_files(self) -> None:
        self.damaged += 1
        self.close()
        for tail in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.remove(f"{self.path}{tail}")


class _Connection:
    """Connection for one thread at a time, reopened if its file has been replaced."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._db: sqlite3.Connection | None = None
        self._file = 0
        self._lock = threading.Lock()
        register_fork_aware(self)

    @property
    def fork_lock(self) -> threading.Lock:
        """Lock held while SQLite works: a fork meanwhile would copy SQLite's own locks in a locked state."""
        return self._lock

    def after_fork(self) -> None:
        """Drop the parent's connection without closing it: SQLite forbids any use after a fork."""
        if self._db is not None:
            self._leave_behind()
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock, and give the connection to this thread."""
        with self._lock:
            if self._db is not None and self._file != _inode(self._store.path):
                self._leave_behind()
            if self._db is None:
                self._db = self._store.opened()
                self._file = _inode(self._store.path)
            yield self._db

    def close(self) -> None:
        """Close the connection; `held()` reopens it."""
        with self._lock:
            db, self._db = self._db, None
            if db:
                db.close()

    def _leave_behind(self) -> None:
        # Closing it would remove the log beside the file, which belongs to another database by now.
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
    """Create the tables in one transaction with the mark of the layout, unless another process was faster."""
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and _pragma(db, "application_id") != _APPLICATION:
        raise PermissionError("the file belongs to another program")
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
