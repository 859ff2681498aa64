"""Lines of a journal: their fields, how they are written, and how a file that may be damaged is read.

Each line is one JSON object, whose `line` names its kind. Times of a circuit's clock are monotonic seconds from
anywhere, comparable within one run, which is one process from its start on; `wall_time` is seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import msgspec

FORMAT = 1
"""Version of the format. Readers of a version take files of that and of earlier ones."""

SUFFIX = ".jsonl"


class _Line(msgspec.Struct, tag_field="line", kw_only=True, omit_defaults=True):
    """Line of a journal; fields with their default are left out."""


class HeaderLine(_Line, tag="header"):
    """First line of each file. `part` counts the files of one run; the times are those of its beginning."""

    format: int
    steadyvoice: str
    run: str
    part: int
    wall_time: float
    clock: float


class ProviderSettings(msgspec.Struct, kw_only=True, frozen=True):
    """Settings of one provider: its circuit's fields and its timeouts, in seconds."""

    name: str
    local: bool
    circuit: dict[str, Any]
    timeouts: dict[str, float | None]


class SettingsLine(_Line, tag="settings"):
    """Settings in force from `at` on: second line of each file, and again after each change."""

    at: float
    providers: list[ProviderSettings]
    retry: dict[str, Any]
    muted: bool = True


class AttemptLine(_Line, tag="attempt"):
    """Request to one provider, or its refusal. All of one utterance come before the line of that utterance.

    `began`, `first`, `last`, `settled` and `ended` are times of the circuit's clock: of the permit, the first and the
    last progress, the result in the circuit, and the end. Absent where nothing was sent.
    """

    utterance: int
    provider: str
    wall_time: float
    outcome: str  # "ok", or the kind of failure
    voice: str | None = None  # the provider's own id
    began: float | None = None
    first: float | None = None
    last: float | None = None
    settled: float | None = None
    ended: float | None = None
    refused: bool = False  # by the circuit or a hold
    probe: bool = False
    retry: bool = False  # the same provider failed with the same text before
    hedge: bool = False
    resume: bool = False  # goes on where another attempt has broken off
    left: bool = False  # the caller left before its end
    starved: bool = False  # this process had too little time, so that it says nothing about the provider
    retry_after: float | None = None  # seconds, as the vendor asked
    begin: int = 0  # characters
    end: int = 0
    first_audio: float | None = None  # seconds from the request to its first audio
    audio: float = 0.0  # seconds
    charge: str = "not sent"
    characters: float = 0.0  # charged, or possibly charged
    wasted: float = 0.0


class UtteranceLine(_Line, tag="utterance"):
    """Utterance, or turn of a conversation, written when it has ended. Times are of the circuits' clock."""

    number: int
    wall_time: float  # of its beginning
    began: float
    ended: float
    outcome: str
    characters: int
    audio: float = 0.0  # seconds that were delivered
    provider: str | None = None  # heard first
    voice: str | None = None
    first_audio: float | None = None  # seconds until it was ready for the caller; silence counts as none
    deadline: float | None = None  # seconds
    candidates: list[str] | None = None  # if they are others than all providers in the order of the settings
    holds: bool = False  # nothing is delivered before all of it is complete
    turn: bool = False
    error: str | None = None  # kind of failure that it ended with


class TransitionLine(_Line, tag="transition"):
    """Change of a circuit's state. `jitter` is the random number by which its cooldown was shortened."""

    at: float
    wall_time: float
    provider: str
    from_state: str
    to_state: str
    cause: str
    retry_after: float | None = None
    jitter: float = 0.0


class ResetLine(_Line, tag="reset"):
    """Reset by hand of a circuit that was closed already: its window was emptied."""

    at: float
    wall_time: float
    provider: str


JournalLine: TypeAlias = HeaderLine | SettingsLine | AttemptLine | UtteranceLine | TransitionLine | ResetLine

encode_line = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(JournalLine).decode


@dataclass(frozen=True, slots=True)
class Damage:
    """Line that cannot be read, and why."""

    path: Path
    number: int  # of the line, from 1
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.number}: {self.reason}"


@dataclass(slots=True)
class JournaledUtterance:
    """Utterance and its attempts in the order in which they ended."""

    line: UtteranceLine
    attempts: Sequence[AttemptLine]


@dataclass(slots=True)
class Run:
    """Journal of a process from its start on, in the order of the lines."""

    id: str
    header: HeaderLine | None = None
    settings: list[SettingsLine] = field(default_factory=list)
    utterances: list[JournaledUtterance] = field(default_factory=list)
    changes: list[TransitionLine | ResetLine] = field(default_factory=list)
    parts: set[int] = field(default_factory=set)
    _unfinished: dict[int, list[AttemptLine]] = field(default_factory=dict)

    MAX_UNFINISHED: ClassVar[int] = 10_000

    @property
    def incomplete(self) -> int:
        """Number of utterances of which only attempts are known: the end of the journal was cut off."""
        return len(self._unfinished)

    @property
    def wall_offset(self) -> float:
        """Seconds to add to a time of the circuits' clock to get the time of day."""
        return self.header.wall_time - self.header.clock if self.header else 0.0

    @property
    def missing_parts(self) -> int:
        """Number of files that were deleted, or not given, before the last one."""
        return max(self.parts) + 1 - len(self.parts) if self.parts else 0

    def add(self, line: JournalLine) -> None:
        """Add the next line."""
        match line:
            case HeaderLine():
                self.header = self.header or line
                self.parts.add(line.part)
            case SettingsLine():
                if not self.settings or msgspec.structs.replace(line, at=self.settings[-1].at) != self.settings[-1]:
                    self.settings.append(line)
            case AttemptLine():
                self._unfinished.setdefault(line.utterance, []).append(line)
                if len(self._unfinished) > self.MAX_UNFINISHED:
                    del self._unfinished[next(iter(self._unfinished))]
            case UtteranceLine():
                self.utterances.append(JournaledUtterance(line, self._unfinished.pop(line.number, [])))
            case TransitionLine() | ResetLine():
                self.changes.append(line)


@dataclass(slots=True)
class Journal:
    """Content of journal files, by run."""

    runs: list[Run] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    files: int = 0


def journal_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files of a journal: those that are named, and those in folders that are named."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    return found


def read_journal(paths: Iterable[Path]) -> Journal:
    """Read files of a journal, and folders of them. Damaged lines are noted and left out. Raises OSError."""
    journal, runs = Journal(), dict[str, Run]()
    for path in journal_files(paths):
        journal.files += 1
        run: Run | None = None
        for number, line in _lines(path):
            if isinstance(line, str):
                journal.damaged.append(Damage(path, number, line))
                continue
            if isinstance(line, HeaderLine) or run is None:
                key = line.run if isinstance(line, HeaderLine) else run_of(path)
                run = runs.setdefault(key, Run(key))
            run.add(line)
    # Files of one run may come in any order, and lines of the next part must come behind those of the last.
    journal.runs = [run for run in runs.values() if run.utterances or run.changes]
    for run in journal.runs:
        run.settings.sort(key=lambda line: line.at)
        run.changes.sort(key=lambda line: line.at)
        run.utterances.sort(key=lambda each: each.line.ended)
    return journal


def run_of(path: Path) -> str:
    """Return the run that a file belongs to by its name, for one whose header is damaged."""
    return path.name.removesuffix(SUFFIX).rpartition(".")[0] or path.name


def _lines(path: Path) -> Iterator[tuple[int, JournalLine | str]]:
    """Yield the number of each line, and its content or what is wrong with it."""
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            try:
                line: JournalLine = _decode_line(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield number, _reason(data, error)
                continue
            if isinstance(line, HeaderLine) and line.format > FORMAT:
                yield number, f"format {line.format} of a newer version ({line.steadyvoice}); this one reads {FORMAT}"
                return
            yield number, line


def _reason(data: bytes, error: Exception) -> str:
    if not data.endswith(b"\n"):
        return "cut off"
    return f"not a line of a journal: {str(error)[:100]}"
