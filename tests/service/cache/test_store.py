"""Cache store: entries stay whole under kills, corruption, concurrent processes and a full disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from steadyvoice.service.cache.store import FILE_NAME, CacheEntry, CacheStore

pytestmark = pytest.mark.slow

MOST = 2_000_000
FORK = multiprocessing.get_context("fork")


_OPEN: list[CacheStore] = []


@pytest.fixture(autouse=True)
def stores_are_closed() -> Iterator[None]:
    """Close the stores of a test: an unclosed connection is a warning in Python 3.13."""
    yield
    while _OPEN:
        _OPEN.pop().close()


def store_in(folder: Path, most: int) -> CacheStore:
    """Return a store that is closed when the test ends."""
    _OPEN.append(store := CacheStore(folder, most))
    return store


def entry(number: int, size: int = 10_000) -> CacheEntry:
    """Return an entry whose audio has its number in every byte."""
    return CacheEntry(f"key-{number}", 1000.0 + number, b'{"seconds":1}', bytes([number % 256]) * size)


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def run_in_child(work: Callable[[], None]) -> int:
    """Run a script in a child process, and return how it ended."""
    child = FORK.Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode is not None
    return child.exitcode


def test_stored_entry_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = store_in(tmp_path / "new" / "folder", MOST)
    assert store.get(["key-1"]) == {}
    assert not store.path.parent.exists(), "nobody has kept anything yet"
    store.put(entry(1))
    store.put(entry(2))
    store.close()
    again = store_in(tmp_path / "new" / "folder", MOST)
    assert again.get(["key-1", "key-2", "key-3"]) == {"key-1": entry(1), "key-2": entry(2)}
    again.close()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path / "cache", MOST)
    store.put(entry(1))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "cache").iterdir()} == {0o600}
    store.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_file_of_another_user_is_not_used(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(entry(1))
    store.close()
    os.chown(store.path, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        store.get(["key-1"])


class DyingStore(CacheStore):
    """Store that dies within its own bookkeeping, after so many steps of the database."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder, MOST)
        self._steps = steps

    def connect(self) -> sqlite3.Connection:
        db = super().connect()
        db.set_progress_handler(self._step, 1)
        return db

    def _step(self) -> None:
        self._steps -= 1
        if self._steps <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


@given(steps=st.integers(1, 3000), sizes=st.lists(st.integers(0, 200_000), min_size=1, max_size=30))
@settings(max_examples=40)
def test_process_killed_while_storing_leaves_whole_entries_only(steps: int, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def fill() -> None:
            store = DyingStore(Path(folder), steps)
            for number, size in enumerate(sizes):
                store.put(entry(number, size))
                store.get([f"key-{number // 2}"])

        assert run_in_child(fill) in (0, -signal.SIGKILL)
        store = store_in(Path(folder), MOST)
        found = store.get([f"key-{number}" for number in range(len(sizes))])
        assert all(found[key] == entry(int(key[4:]), sizes[int(key[4:])]) for key in found)
        assert store.damaged == 0
        store.put(entry(1000))
        assert store.get(["key-1000"]), "and it goes on from there"
        store.close()


def test_leaving_process_keeps_the_log_of_others(tmp_path: Path) -> None:
    """The locks vanish when a file that holds them is closed; then the database would be damaged."""
    store = store_in(tmp_path, MOST)
    store.put(entry(1))
    assert store.get(["key-1"])

    come_and_go = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM speech'); db.close()"
    )
    subprocess.run([sys.executable, "-c", come_and_go, str(store.path)], check=True, timeout=30)
    assert store.path.with_name(f"{store.path.name}-wal").exists()
    store.put(entry(2))
    assert store.get(["key-1", "key-2"]).keys() == {"key-1", "key-2"}
    store.close()


def test_two_processes_may_store_the_same_at_once(tmp_path: Path) -> None:
    def fill(level: int) -> None:
        store = store_in(tmp_path, MOST)
        for _ in range(40):
            try:
                store.put(CacheEntry("the same", level, b"{}", bytes([level]) * 100_000))
                found = store.get(["the same"])["the same"]
            except sqlite3.OperationalError as busy:
                if "locked" not in str(busy):
                    raise
            else:
                assert found.audio == bytes([int(found.made)]) * 100_000
        store.close()

    children = [FORK.Process(target=fill, args=(level,)) for level in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]


ANY = st.lists(st.integers(0, 260_000), max_size=60)
MANY = st.lists(st.integers(60_000, 120_000), min_size=25, max_size=40)


@example([29871, 70907, 21934, 117161, 1480, 76241, 79580, 124987, 64580, 124987, 107746], 1_000_000)
@given(sizes=ANY | MANY, most=st.sampled_from([1_000_000, MOST, 5_000_000]))
@settings(max_examples=25)
def test_folder_never_exceeds_its_limit(sizes: list[int], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = store_in(Path(folder), most)
        for number, size in enumerate(sizes):
            kept = store.put(entry(number, size))
            assert kept == (size + 13 <= most // 8)
            assert kept == bool(store.get([f"key-{number}"]))
            assert not store.path.exists() or size_of(Path(folder)) <= most
        store.close()


def test_least_recently_used_entries_are_removed_first(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(CacheEntry("favourite", 1e12, b"{}", bytes(100_000)))
    for number in range(60):
        store.put(entry(number, 100_000))
        assert store.get(["favourite"])
    assert not store.get(["key-0"])
    store.close()


def test_smaller_limit_shrinks_the_file(tmp_path: Path) -> None:
    store = store_in(tmp_path, 20 * MOST)
    for number in range(100):
        store.put(entry(number, 200_000))
    store.close()
    smaller = store_in(tmp_path, MOST)
    smaller.put(entry(1000))
    assert smaller.get(["key-1000"])
    assert size_of(tmp_path) <= MOST
    smaller.close()


@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), cut=st.booleans())
@example(place=0.03250071076141725, bits=128, cut=False)  # SQLite's message about the schema cannot be decoded
@settings(max_examples=60)
def test_corrupted_entry_is_never_played(place: float, bits: int, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = store_in(Path(folder), MOST)
        for number in range(5):
            store.put(entry(number, 20_000))
        store.close()
        corrupt(store.path, place, bits, cut)
        for _ in range(3):  # found out, thrown away, begun anew
            try:
                found = store.get([f"key-{number}" for number in range(5)])
            except (OSError, sqlite3.Error):
                continue
            assert all(found[key] == entry(int(key[4:]), 20_000) for key in found)
        store.close()


def corrupt(path: Path, share: float, bits: int, cut: bool) -> None:
    data = bytearray(path.read_bytes())
    place = int(share * len(data))
    data[place] ^= bits
    path.write_bytes(data[:place] if cut else data)


def test_damaged_database_is_replaced(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(entry(1))
    store.close()
    store.path.write_bytes(Random(1).randbytes(50_000))
    with pytest.raises(sqlite3.DatabaseError):
        store.get(["key-1"])
    store.put(entry(1))
    assert store.get(["key-1"])
    assert store.damaged == 1
    store.close()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as theirs:
        theirs.execute("CREATE TABLE recipes (name TEXT)")
    theirs.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    store = store_in(tmp_path, MOST)
    with pytest.raises(PermissionError, match="another program"):
        store.put(entry(1))
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(entry(1))
    store.close()
    with sqlite3.connect(store.path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(PermissionError, match="another version"):
        store.get(["key-1"])


def test_emptied_folder_is_filled_again(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(entry(1))
    assert store.get(["key-1"])
    for file in tmp_path.iterdir():
        file.unlink()
    assert store.get(["key-1"]) == {}
    store.put(entry(2))
    assert store_in(tmp_path, MOST).get(["key-2"])
    store.close()


def test_full_disk_loses_only_what_does_not_fit(tmp_path: Path) -> None:
    program = f"""
import resource, sqlite3, sys
from pathlib import Path
from steadyvoice.service.cache.store import CacheEntry, CacheStore
store = CacheStore(Path({str(tmp_path)!r}), 10_000_000)
store.put(CacheEntry("small", 1.0, b"{{}}", bytes(1000)))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    store.put(CacheEntry("large", 1.0, b"{{}}", bytes(1_000_000)))
except (OSError, sqlite3.Error) as error:
    print(type(error).__name__)
print(*store.get(["small", "large"]))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert ran.stdout.split() == ["OperationalError", "small"], ran.stderr


def test_forked_child_opens_its_own_connection(tmp_path: Path) -> None:
    store = store_in(tmp_path, MOST)
    store.put(entry(1))

    def child() -> None:
        store.put(entry(2))
        assert store.get(["key-1", "key-2"]).keys() == {"key-1", "key-2"}

    assert run_in_child(child) == 0
    assert store.get(["key-2"])
    store.close()
