"""Which character of a text is heard when, and the captions that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal


@dataclass(frozen=True, slots=True)
class Word:
    """One word, where it stands in the text (character offsets) and when it is heard (seconds)."""

    text: str
    begin: int
    finish: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """For each character of a text, when it starts and ends, in seconds from the first sample.

    `exact` is false where the times were spread evenly over the audio because the provider sent none.
    """

    characters: tuple[str, ...] = ()
    starts: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()
    exact: bool = True

    def __post_init__(self) -> None:
        if not len(self.characters) == len(self.starts) == len(self.ends):
            raise ValueError(
                f"an alignment has one start and one end per character, got "
                f"{len(self.characters)} characters, {len(self.starts)} starts and {len(self.ends)} ends"
            )

    @classmethod
    def spread(cls, text: str, duration: float) -> Alignment:
        """Share `duration` seconds evenly among the characters: the best guess without a vendor's times."""
        count = len(text)
        edges = [duration * index / count for index in range(count + 1)] if count else []
        return cls(tuple(text), tuple(edges[:-1]), tuple(edges[1:]), exact=False)

    @property
    def text(self) -> str:
        return "".join(self.characters)

    @classmethod
    def joined(cls, pieces: Iterable[tuple[float, Alignment]]) -> Alignment:
        """Lay pieces end to end, each with the second at which its audio begins."""
        pieces = list(pieces)
        return cls(
            tuple(character for _, piece in pieces for character in piece.characters),
            tuple(offset + start for offset, piece in pieces for start in piece.starts),
            tuple(offset + end for offset, piece in pieces for end in piece.ends),
            exact=all(piece.exact for _, piece in pieces),
        )

    def words(self) -> list[Word]:
        """Split at white space. A word lasts from its first character's start to its last one's end."""
        blanks = [-1, *(i for i, character in enumerate(self.characters) if character.isspace())]
        blanks.append(len(self.characters))
        return [
            Word(
                "".join(self.characters[before + 1 : after]),
                before + 1,
                after,
                self.starts[before + 1],
                self.ends[after - 1],
            )
            for before, after in pairwise(blanks)
            if after - before > 1
        ]


def captions(alignment: Alignment, form: Literal["vtt", "srt"] = "vtt") -> str:
    """Write the words as WebVTT (https://www.w3.org/TR/webvtt1/) or SubRip, a cue a line."""
    cues = _lines(alignment.words())
    blocks = [
        f"{number}\n{_stamp(cue[0].start, form)} --> {_stamp(cue[-1].end, form)}\n{_cue_text(cue, form)}\n"
        for number, cue in enumerate(cues, start=1)
    ]
    head = ["WEBVTT\n"] if form == "vtt" else []
    return "\n".join(head + blocks)


def _lines(words: list[Word], width: int = 42) -> list[list[Word]]:
    """Gather words into cues that fit a line of subtitles (42 characters is broadcasters' habit)."""
    lines: list[list[Word]] = []
    room = 0
    for word in words:
        if not lines or len(word.text) + 1 > room or lines[-1][-1].text.endswith((".", "!", "?", "。")):
            lines.append([])
            room = width
        lines[-1].append(word)
        room -= len(word.text) + 1
    return lines


def _cue_text(words: list[Word], form: str) -> str:
    if form == "srt":
        return " ".join(word.text for word in words)
    # A cue's later words carry their own time stamps, so that a player can light them up one by one.
    first, *others = words
    timed = "".join(f" <{_stamp(word.start, form)}>{_escaped(word.text)}" for word in others)
    return _escaped(first.text) + timed


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(seconds: float, form: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    mark = "." if form == "vtt" else ","
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"
