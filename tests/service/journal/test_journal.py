"""Journal of outcomes: what is written of each attempt, and that writing it harms nothing."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice import CircuitBreakerConfig, RetryConfig, Tone, TTSService
from steadyvoice.service.journal.recorder import JournalRecorder
from steadyvoice.service.journal.records import (
    AttemptLine,
    HeaderLine,
    ResetLine,
    SettingsLine,
    UtteranceLine,
    encode_line,
    read_journal,
)
from steadyvoice.service.journal.writer import MIN_FILE_BYTES, JournalConfig, JournalFiles, JournalWriter
from steadyvoice.service.replay.report import replay_journal
from steadyvoice.speech.errors import TTSConfigurationError, TTSServerError

from ..conftest import MakeService
from ..scripted_provider import Say, ScriptedProvider

DOWN = TTSServerError("HTTP 503: the sentence 'secret words' failed", status=503)
BREAKS = TTSServerError("broke off", status=500)
SECRET = "Secret words, said to nobody."


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.mark.looptime
async def test_outage_is_written_attempt_by_attempt_without_a_word(make_service: MakeService, tmp_path: Path) -> None:
    first = ScriptedProvider([*[Say()] * 3, *[DOWN] * 3], name="first")
    tts = make_service(first, ScriptedProvider(name="second"), journal=tmp_path / "new" / "journal")
    async with tts:
        for _ in range(6):
            await tts.synthesize(SECRET, format="pcm_8000")
        await asyncio.sleep(60)
        await tts.synthesize(SECRET, format="pcm_8000")
    folder = tmp_path / "new" / "journal"
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert b"ecret" not in all_bytes(folder)
    journal = read_journal([folder])
    (run,) = journal.runs
    assert (journal.damaged, run.incomplete, run.missing_parts) == ([], 0, 0)
    assert [provider.name for provider in run.settings[0].providers] == ["first", "second"]
    assert run.settings[0].providers[0].circuit["window_size"] == 4
    attempts = [
        [(each.provider, each.outcome, each.refused, each.retry, each.probe) for each in utterance.attempts]
        for utterance in run.utterances
    ]
    failed, retried = ("first", "server_error", False, False, False), ("first", "server_error", False, True, False)
    spoken, refused = ("second", "ok", False, False, False), ("first", "circuit_open", True, False, False)
    assert attempts == [
        *[[("first", "ok", False, False, False)]] * 3,
        [failed, retried, spoken],
        [refused, spoken],
        [refused, spoken],
        [("first", "server_error", False, False, True), spoken],
    ]
    assert [each.line.outcome for each in run.utterances] == [*["spoken"] * 3, *["substituted"] * 4]
    states = [(change.from_state, change.to_state) for change in run.changes if not isinstance(change, ResetLine)]
    assert states == [("closed", "open"), ("open", "half_open"), ("half_open", "open")]
    last = run.utterances[3].line
    assert last.first_audio == pytest.approx(last.ended - last.began)  # synthesize() gives nothing before the end


@pytest.mark.looptime
async def test_resumed_speech_and_costs_are_written(make_service: MakeService, tmp_path: Path) -> None:
    breaking = ScriptedProvider([Say(then=BREAKS, aligned=True)], name="first")
    tts = make_service(breaking, ScriptedProvider(name="second"), journal=tmp_path, retry=RetryConfig(max_attempts=1))
    async with tts:
        async for _ in tts.stream("One two three four five.", format="pcm_8000", deadline=7):
            pass
    (utterance,) = read_journal([tmp_path]).runs[0].utterances
    assert (utterance.line.deadline, utterance.line.candidates, utterance.line.holds) == (7, None, False)
    assert next(each.provider for each in utterance.attempts) == "first"
    assert all(each.charge == "billed" for each in utterance.attempts)
    assert sum(each.characters for each in utterance.attempts) >= len("One two three four five.")


@pytest.mark.looptime
async def test_change_of_settings_and_a_reset_are_written(make_service: MakeService, tmp_path: Path) -> None:
    tts = make_service(ScriptedProvider(name="first"), journal=tmp_path)
    async with tts:
        await tts.synthesize("One.", format="pcm_8000")
        tts.reset_circuit_breaker()
        await tts.reconfigure(circuit=CircuitBreakerConfig.production())
        await tts.reconfigure(muted=True)
        await tts.synthesize("Two.", format="pcm_8000")
    (run,) = read_journal([tmp_path]).runs
    assert [line.providers[0].circuit.get("window_size") for line in run.settings] == [4, 20]
    assert [type(change) for change in run.changes] == [ResetLine]


@pytest.mark.looptime
async def test_journal_is_begun_and_ended_at_run_time(make_service: MakeService, tmp_path: Path) -> None:
    tts = make_service(ScriptedProvider(name="first"))
    async with tts:
        assert tts.get_error_state()["journal"] is None
        await tts.reconfigure(journal=tmp_path)
        await tts.synthesize("One.", format="pcm_8000")
        await tts.reconfigure(journal=None)
        await tts.synthesize("Two.", format="pcm_8000")
        assert not tts.observers
    assert len(read_journal([tmp_path]).runs[0].utterances) == 1


@pytest.mark.looptime
async def test_journal_that_cannot_be_written_is_reported_once_and_harms_nothing(
    make_service: MakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    tts = make_service(ScriptedProvider(name="first"), journal=tmp_path / "file" / "journal")
    async with tts:
        for _ in range(3):
            assert (await tts.synthesize("One.", format="pcm_8000")).outcome == "spoken"
    state = tts.get_error_state()["journal"]
    assert (state["written"], state["lost"], state["error"]) == (0, 7, "Not a directory")
    assert [each.message for each in caplog.records if each.name == "steadyvoice.journal"] == [
        f"journal {tmp_path / 'file' / 'journal'}: cannot be written: Not a directory; speech goes on without it"
    ]


def utterance_line(number: int = 1, outcome: str = "spoken") -> UtteranceLine:
    return UtteranceLine(number=number, wall_time=1.0, began=1.0, ended=2.0, outcome=outcome, characters=9)


def attempt_line(number: int = 1, provider: str = "first") -> AttemptLine:
    return AttemptLine(utterance=number, provider=provider, wall_time=1.0, outcome="ok", began=1.0, ended=2.0)


def header(part: int) -> bytes:
    line = HeaderLine(format=1, steadyvoice="0", run="run", part=part, wall_time=1.0, clock=1.0)
    return encode_line(line) + b"\n"


def test_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    files = JournalFiles(JournalConfig(folder), "run", header)
    files.write([b"one\n"])
    shutil.rmtree(folder)
    files.write([b"two\n"])
    files.close()
    assert all_bytes(folder).endswith(b"two\n")


def test_full_disk_is_reported_once_and_retried_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class FullDisk(JournalFiles):
        tried = 0

        def write(self, lines: Sequence[bytes]) -> int:
            self.tried += 1
            raise OSError(28, os.strerror(28))

    files = FullDisk(JournalConfig(tmp_path), "run", header)
    writer = JournalWriter(files, tmp_path)
    for _ in range(3):
        writer.put([utterance_line()])
        writer.flush()
    writer.close()
    assert (writer.state()["lost"], writer.state()["error"], files.tried) == (3, os.strerror(28), 1)
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1


def test_lines_that_come_faster_than_the_disk_takes_them_are_counted(tmp_path: Path) -> None:
    writer = JournalWriter(JournalFiles(JournalConfig(tmp_path), "run", header), tmp_path)
    for number in range(300):
        writer.put([utterance_line(number)] * 100)
    writer.close()
    writer.put([utterance_line()])  # after the end
    state = writer.state()
    assert state["lost"] >= 1
    assert state["written"] + state["lost"] == 30_001
    assert sum(line.startswith(b'{"line":"utterance"') for line in all_bytes(tmp_path).splitlines()) == state["written"]


@given(st.lists(st.integers(1, MIN_FILE_BYTES + 10), max_size=40), st.integers(2, 5), st.integers(1, 3))
def test_folder_never_exceeds_its_bound(lengths: list[int], files: int, runs: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = JournalConfig(folder, max_megabytes=files * MIN_FILE_BYTES / 1e6, files=files)
        lost = 0
        for run in range(runs):
            journal = JournalFiles(config, f"run{run}", header)
            for length in lengths:
                lost += journal.write([b"." * (length - 1) + b"\n"])
                assert sum(path.stat().st_size for path in folder.iterdir()) <= config.max_bytes
            journal.close()
        assert lost == runs * sum(length + len(header(0)) > MIN_FILE_BYTES for length in lengths)
        for path in folder.iterdir():
            assert path.read_bytes().startswith(b'{"line":"header"')
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, MIN_FILE_BYTES // 2)), max_size=60), st.integers(2, 5))
def test_processes_that_write_at_once_exceed_the_bound_by_one_file_of_each(
    lines: list[tuple[int, int]], files: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = JournalConfig(folder, max_megabytes=files * MIN_FILE_BYTES / 1e6, files=files)
        journals = [JournalFiles(config, f"run{number}", header) for number in range(4)]
        for number, length in lines:
            assert journals[number].write([b"." * (length - 1) + b"\n"]) == 0
            held = sum(path.stat().st_size for path in folder.iterdir())
            assert held <= config.max_bytes + (len(journals) - 1) * config.file_bytes
        for journal in journals:
            journal.close()


def test_forked_child_writes_a_run_of_its_own(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with TTSService([Tone()], journal=tmp_path) as tts:
        tts.synthesize("Hello.", format="pcm_8000")

        def in_child() -> None:
            for _ in range(2):
                tts.synthesize("Hello.", format="pcm_8000")
            tts.close()

        child = context.Process(target=in_child)
        child.start()
        child.join(20)
        assert child.exitcode == 0
        tts.synthesize("Hello.", format="pcm_8000")
    journal = read_journal([tmp_path])
    assert journal.damaged == []
    assert sorted(len(run.utterances) for run in journal.runs) == [2, 2]
    processes = {run.id.split("-")[1]: run for run in journal.runs}
    assert set(processes) == {str(os.getpid()), str(child.pid)}
    assert all(run.header and run.settings for run in journal.runs)
    report = replay_journal(journal, []).as_dict()
    assert (report["journal"]["runs"], report["happened"]["callers"]) == (2, 4)
    assert report["fidelity"]["utterances_met"] == 4


def test_fork_asks_no_clock_that_may_belong_to_the_parents_loop(tmp_path: Path) -> None:
    asked: list[str] = []

    class NoService:
        """Service without providers."""

        providers: tuple[()] = ()
        settings: ClassVar[dict[str, object]] = {"retry": RetryConfig(), "muted": True}

        def observe(self, observer: object) -> Callable[[], None]:
            """Observe nothing."""
            return lambda: None

        subscribe = observe

    def clock() -> float:
        asked.append("asked")
        return 1.0

    recorder = JournalRecorder(JournalConfig(tmp_path), NoService(), clock=clock)  # type: ignore[arg-type]
    asked.clear()
    recorder.after_fork()
    assert asked == []
    recorder.settings_changed()
    assert asked
    asyncio.run(recorder.aclose())
    assert len(list(tmp_path.iterdir())) == 1


def test_each_file_begins_with_the_settings_in_force(tmp_path: Path) -> None:
    files = JournalFiles(JournalConfig(tmp_path, max_megabytes=0.2, files=4), "run", header)
    for muted in (True, False):
        settings = SettingsLine(at=1.0, providers=[], retry={}, muted=muted)
        files.write([encode_line(settings) + b"\n", *[encode_line(utterance_line()) + b"\n"] * 600])
    files.close()
    heads = [path.read_bytes().splitlines()[:2] for path in sorted(tmp_path.iterdir())]
    assert len(heads) >= 3
    assert all(b'"header"' in first and b'"settings"' in second for first, second in heads)
    assert b'"muted":false' in heads[-1][1]
    assert [line.muted for line in read_journal([tmp_path]).runs[0].settings][-1] is False


WHOLE = b"".join(
    [
        header(0),
        *(
            encode_line(line) + b"\n"
            for number in range(3)
            for line in (attempt_line(number), attempt_line(number, "zwei ä"), utterance_line(number))
        ),
    ]
)


@given(st.integers(0, len(WHOLE)))
def test_journal_that_is_cut_at_any_byte_can_be_read(cut: int) -> None:
    with TemporaryDirectory() as name:
        (Path(name) / "run.0000.jsonl").write_bytes(WHOLE[:cut])
        journal = read_journal([Path(name)])
    whole_lines = WHOLE[:cut].split(b"\n")
    utterances = sum(line.startswith(b'{"line":"utterance"') for line in whole_lines[:-1])
    found = [each.line.number for run in journal.runs for each in run.utterances]
    # The last line may be whole but for its end.
    assert found[:utterances] == list(range(utterances))
    assert len(journal.damaged) <= 1
    assert all(each.reason == "cut off" for each in journal.damaged)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=5))
def test_damaged_lines_are_counted_and_left_out(place: int, garbage: bytes) -> None:
    damaged = WHOLE[:place] + garbage + WHOLE[place + len(garbage) :]
    with TemporaryDirectory() as name:
        (Path(name) / "run.0000.jsonl").write_bytes(damaged)
        journal = read_journal([Path(name)])
    lines = [line for line in damaged.split(b"\n") if line]
    readable = sum(len(run.utterances) + run.incomplete for run in journal.runs)
    assert readable <= 3 + len(lines)
    assert all(str(each).startswith("run.0000.jsonl:") for each in journal.damaged)


def test_files_of_a_newer_version_are_named(tmp_path: Path) -> None:
    line = HeaderLine(format=2, steadyvoice="9.0", run="run", part=0, wall_time=1.0, clock=1.0)
    (tmp_path / "run.0000.jsonl").write_bytes(encode_line(line) + b"\n" + encode_line(utterance_line()) + b"\n")
    journal = read_journal([tmp_path])
    assert [each.reason for each in journal.damaged] == ["format 2 of a newer version (9.0); this one reads 1"]
    assert not journal.runs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "path: must name a folder"),
        ({"path": "x", "max_megabytes": 0}, "max_megabytes: must be a number of megabytes, 0.1 or more, got 0"),
        ({"path": "x", "files": 1}, "files: must be a whole number, 2 or more, got 1"),
        ({"path": "x", "files": 2000}, "files: 2000 in 64 MB are too small; each needs 50000 bytes"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        JournalConfig(**settings)  # type: ignore[arg-type]
