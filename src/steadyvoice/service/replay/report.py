"""Report of a replay: what callers met with under each settings, how sure that is, and how well the past is met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from steadyvoice.breaker import CircuitState
from steadyvoice.service.journal.records import Journal, Run, TransitionLine
from steadyvoice.service.replay.alternatives import RECORDED, Alternative
from steadyvoice.service.replay.circuit_simulation import Transition
from steadyvoice.service.replay.evidence import Evidence
from steadyvoice.service.replay.simulation import Replayed, ReplayedUtterance, Simulation

SLOW = 2.0
"""Seconds until the first audio after which a caller has waited."""

_SAME = 1e-4  # seconds within which a replayed transition is the recorded one


class ReplayTimeoutError(Exception):
    """Raised when a replay takes longer than it may."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Result of a replay: `happened`, and the recorded settings and alternatives by name, JSON-ready."""

    journal: Mapping[str, Any]
    happened: Mapping[str, Any]
    fidelity: Mapping[str, Any]
    replays: Mapping[str, Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-ready value."""
        return {
            "journal": self.journal,
            "happened": self.happened,
            "fidelity": self.fidelity,
            "replays": self.replays,
        }


def replay_journal(
    journal: Journal,
    alternatives: Iterable[Alternative] = (),
    *,
    slow: float = SLOW,
    last: int | None = None,
    seconds: float | None = None,
) -> ReplayReport:
    """Replay a journal under its recorded settings and the alternatives.

    Args:
        journal: content of the journal files.
        alternatives: settings to compare.
        slow: seconds until the first audio after which a caller has waited.
        last: number of utterances of each run to replay, the newest; None: all.
        seconds: time that the replay may take; None: any.

    Raises ReplayTimeoutError, and TTSConfigurationError for an alternative that cannot work.
    """
    end = None if seconds is None else monotonic() + seconds
    runs = [_newest(run, last) for run in journal.runs if run.settings]
    recorded = [list(each.utterances) for each in runs]
    replays: dict[str, Mapping[str, Any]] = {}
    fidelity: Mapping[str, Any] = {}
    evidence = Evidence.of(runs)
    for alternative in (RECORDED, *alternatives):
        results = []
        for run in runs:
            if end is not None and monotonic() > end:
                raise ReplayTimeoutError(f"the replay takes longer than {seconds:g} s; replay fewer utterances")
            results.append(Simulation(run, alternative, evidence).run())
        replays[alternative.name] = summary_of(results, slow=slow)
        if alternative is RECORDED:
            fidelity = fidelity_of(runs, results)
    return ReplayReport(
        {
            "files": journal.files,
            "runs": len(runs),
            "utterances": sum(map(len, recorded)),
            "incomplete": sum(run.incomplete for run in journal.runs),
            "missing_files": sum(run.missing_parts for run in journal.runs),
            "without_settings": sum(len(run.utterances) for run in journal.runs if not run.settings),
            "damaged_lines": len(journal.damaged),
            "damaged": [str(each) for each in journal.damaged[:20]],
        },
        happened_in(runs, slow=slow),
        fidelity,
        replays,
    )


def _newest(run: Run, last: int | None) -> Run:
    """Return a run with its newest utterances only."""
    if last is None or len(run.utterances) <= last:
        return run
    return Run(run.id, run.header, run.settings, run.utterances[-last:], run.changes, run.parts)


def happened_in(runs: Sequence[Run], *, slow: float = SLOW) -> dict[str, Any]:
    """Return the summary of what was recorded."""
    results = []
    for run in runs:
        utterances = []
        for each in run.utterances:
            result = ReplayedUtterance(each.line, each.line.outcome, each.line.first_audio)
            for attempt in each.attempts:
                result.calls.append((attempt.provider, attempt.refused, attempt.began or 0.0))
                result.billed += attempt.characters if attempt.charge == "billed" else 0.0
                result.unknown += attempt.characters if attempt.charge == "sent and unknown" else 0.0
                result.wasted += attempt.wasted
            utterances.append(result)
        transitions = [_recorded(change) for change in run.changes if isinstance(change, TransitionLine)]
        ended = max([each.line.ended for each in run.utterances], default=0.0)
        results.append(Replayed(utterances, transitions, ended))
    return {name: value for name, value in summary_of(results, slow=slow).items() if name != "coverage"}


def summary_of(results: Sequence[Replayed], *, slow: float = SLOW) -> dict[str, Any]:
    """Return counts, waits and costs of callers, JSON-ready."""
    utterances = [each for result in results for each in result.utterances]
    outcomes = Counter(each.outcome for each in utterances)
    waits = sorted(each.first_audio for each in utterances if each.first_audio is not None)
    silent = [each for each in utterances if each.outcome in ("muted", "recorded", "failed")]
    return {
        "callers": len(utterances),
        "outcomes": dict(sorted(outcomes.items())),
        "failed": len(silent),
        "refused": sum(bool(each.calls) and not each.sent for each in silent),
        "another_voice": outcomes["substituted"] + outcomes["resumed"],
        "waited": sum(wait > slow for wait in waits),
        "slow": slow,
        "first_audio": _percentiles(waits),
        "attempts": sum(each.sent for each in utterances),
        "refusals": sum(refused for each in utterances for _, refused, _ in each.calls),
        "openings": sum(each.to_state == "open" for result in results for each in result.transitions),
        "seconds_open": sum(_seconds_open(result) for result in results),
        "billed": round(sum(each.billed for each in utterances), 3),
        "perhaps_billed": round(sum(each.unknown for each in utterances), 3),
        "wasted": round(sum(each.wasted for each in utterances), 3),
        "coverage": _coverage(utterances),
    }


def _coverage(utterances: Sequence[ReplayedUtterance]) -> dict[str, Any]:
    gaps = sorted(gap for each in utterances for gap in each.gaps)
    modelled = len(gaps)
    return {
        "as_recorded": sum(each.is_as_recorded for each in utterances),
        "modelled_attempts": modelled,
        "evidence_within_1_s": sum(gap <= 1 for gap in gaps),
        "evidence_within_10_s": sum(gap <= 10 for gap in gaps),
        "farthest_evidence": gaps[-1] if gaps else None,
        "without_evidence": sum(each.assumed for each in utterances),
        "given_up_before_an_answer": sum(each.censored for each in utterances),
    }


def fidelity_of(runs: Sequence[Run], results: Sequence[Replayed]) -> dict[str, Any]:
    """Return how much of what happened the recorded settings bring about again, call for call."""
    changes = matched = calls = same = 0
    for run, result in zip(runs, results, strict=True):
        recorded = [_recorded(change) for change in run.changes if isinstance(change, TransitionLine)]
        changes += len(recorded)
        left = list(result.transitions)
        for change in recorded:
            found = next((each for each in left if _is_same(each, change)), None)
            if found:
                left.remove(found)
                matched += 1
        by_line = {id(each.line): each for each in result.utterances}
        for utterance in run.utterances:
            calls += 1
            replayed = by_line[id(utterance.line)]
            expected = sorted((each.provider, each.refused) for each in utterance.attempts if not each.hedge)
            found_calls = sorted((name, refused) for name, refused, _ in replayed.calls)
            same += replayed.is_as_recorded and (found_calls == expected or not utterance.attempts)
    return {"transitions": changes, "transitions_met": matched, "utterances": calls, "utterances_met": same}


def _recorded(line: TransitionLine) -> Transition:
    return Transition(line.at, line.provider, line.from_state, line.to_state, line.cause)


def _is_same(one: Transition, other: Transition) -> bool:
    states = (one.provider, one.from_state, one.to_state)
    return states == (other.provider, other.from_state, other.to_state) and abs(one.at - other.at) < _SAME


def _seconds_open(result: Replayed) -> float:
    """Return the seconds for which circuits refused calls, those of all providers together."""
    total, since = 0.0, dict[str, float]()
    for change in result.transitions:
        opened = since.pop(change.provider, None)
        if opened is not None:
            total += change.at - opened
        if change.to_state in (CircuitState.OPEN.value, CircuitState.FORCED_OPEN.value):
            since[change.provider] = change.at
    return round(total + sum(max(0.0, result.ended - opened) for opened in since.values()), 3)


def _percentiles(waits: Sequence[float]) -> dict[str, float] | None:
    if not waits:
        return None
    return {
        name: round(waits[min(len(waits) - 1, int(len(waits) * share))], 3)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
