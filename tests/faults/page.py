"""Writes docs/faults.md from what really became of each bad day.

python -m tests.faults.page           # live through them all, and write the page anew
python -m tests.faults.page --check   # only say whether it is up to date
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from steadyvoice import TTSStreamInterruptedError
from steadyvoice.simulator.fault_injection.actions import Refuse

from .fault_cases import EVERY_DAY, LEFT_OUT, BadDay
from .scenario import TEXT, Fate, live_through_all

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

INTRO = """\
# What becomes of each fault

[The simulator](simulator.md) stands in for ElevenLabs and fails in every way it knows, one at a time. Behind it waits
the local voice. Each row was lived through twice over real sockets, by `synthesize` and by `stream`; where they
differ, it reads *synthesize / stream*. Whatever happened, four things held: the caller got speech or a typed error,
within the deadline; the circuit counted what [the taxonomy](../src/steadyvoice/speech/failure_kinds.py) says; and the
vendor's own ledger shows no character billed twice, and agrees with the service's to the character.

This page is written by `python -m tests.faults.page`, and a test lives through it all again.
"""

AFTERWORD = """\
The vendor is asked when each word is heard, and an answer that ends before its last word does is no success, however
properly it was ended. Behind the last whole word somebody else goes on ([how](resume.md)); `synthesize` has nobody
listening yet, so its text is said again from the start.

Raw samples do not say their rate, so a wrong one in PCM or μ-law is believed, and plays at the wrong pitch, unless
it contradicts those times (a WAV is asked of ElevenLabs as samples, too; Opus has but one rate). With
`on_midstream="error"` no times are asked for: an answer that ends properly is taken for the whole then, unless it is
[too short](length.md) for any voice.
"""

_HEARD = {
    "spoken": "ElevenLabs",
    "substituted": "the local voice",
    "resumed": "both, one after the other",
    "muted": "silence with captions",
}
_COLUMNS = ("heard", "failure", "counted", "requests", "billed")


def main() -> str | None:
    """None when all is well, else what is not."""
    logging.disable(logging.CRITICAL)
    page = written(asyncio.run(live_through_all(EVERY_DAY)))
    if "--check" in sys.argv[1:]:
        return None if PAGE.read_text("utf-8") == page else f"{PAGE.name} is out of date: python -m tests.faults.page"
    PAGE.write_text(page, "utf-8")
    return None


def written(fates: Sequence[Fate]) -> str:
    """The whole page."""
    pairs = list(zip(fates[::2], fates[1::2], strict=True))
    refused = [pair for pair in pairs if _is_refusal(pair[0].day)]
    others = [pair for pair in pairs if not _is_refusal(pair[0].day)]
    left_out = ", ".join(f"`{name}`" for name in LEFT_OUT)
    return "\n".join(
        [
            INTRO,
            *_table("fault", "what the vendor does", _rows(others, lambda day: f"`{day.fault}`", _mishap)),
            "",
            "## Refusals",
            "",
            *_table("answer", "written", _rows(refused, _answer, _forms)),
            "",
            AFTERWORD,
            f"Left out, for they befall only websockets: {left_out}.",
            "",
        ]
    )


def _table(first: str, second: str, rows: Iterator[tuple[str, ...]]) -> list[str]:
    head = (first, second, "who is heard", "failure", "weight in the circuit", "requests", "characters billed")
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]


def _rows(
    pairs: list[tuple[Fate, Fate]], name: Callable[[BadDay], str], about: Callable[[list[BadDay]], str]
) -> Iterator[tuple[str, ...]]:
    """One row for all that were alike: neighbours of one name, and one fate."""
    for (named, fate), alike in groupby(pairs, key=lambda pair: (name(pair[0].day), _fate(*pair))):
        days = [pair[0].day for pair in alike]
        yield (named, about(days), *fate)


def _mishap(days: list[BadDay]) -> str:
    formats = ", ".join(day.format for day in days)
    alike = len([day for day in EVERY_DAY if day.act == days[0].act]) == len(days)
    return days[0].mishap if alike else f"{days[0].mishap} ({formats})"


def _fate(whole: Fate, stream: Fate) -> tuple[str, ...]:
    both = [(_cells(whole)[column], _cells(stream)[column]) for column in range(len(_COLUMNS))]
    return tuple(one if one == other else f"{one} / {other}" for one, other in both)


def _cells(fate: Fate) -> tuple[str, ...]:
    kinds = [error.kind.value for error in fate.failures]
    named = ", then ".join(f"{kind} twice" if len(list(same)) > 1 else kind for kind, same in groupby(kinds))
    return (_who(fate), named or "none", f"{fate.counted:g}", str(fate.requests), _billed(fate))


def _who(fate: Fate) -> str:
    if isinstance(fate.error, TTSStreamInterruptedError):
        return "an error after some audio"
    if fate.error or fate.account is None:
        return "an error"
    return _HEARD[fate.account.outcome]


def _billed(fate: Fate) -> str:
    return {0: "none", len(TEXT): "all, once"}.get(fate.charged, str(fate.charged))


def _is_refusal(day: BadDay) -> bool:
    return isinstance(day.act, Refuse)


def _answer(day: BadDay) -> str:
    assert isinstance(day.act, Refuse)
    return f"`{day.act.code or day.act.status}`"


def _forms(days: list[BadDay]) -> str:
    forms = [day.act.form for day in days if isinstance(day.act, Refuse)]
    return "either way" if len(forms) > 1 else forms[0] or "as a status"


if __name__ == "__main__":
    sys.exit(main())
