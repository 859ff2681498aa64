"""Preview of failures: which provider speaks next, after how many seconds, and what is heard when none is left.

Decided by the functions that decide for real utterances (`find_candidates`, `next_step`), on a virtual clock, with
circuits of its own: nothing is sent, and nothing is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import cast

from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState
from steadyvoice.service.options import (
    ResolvedOptions,
    ServiceArguments,
    ServiceSettings,
    SettingsInForce,
    SynthesisOptions,
    UtterancePolicy,
    validate_settings,
)
from steadyvoice.service.pipeline.attempt import first_audio_limit
from steadyvoice.service.pipeline.candidates import Candidate, Candidates, find_candidates
from steadyvoice.service.provider_set import ProviderSet
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.failover import TryProvider, WaitForProvider, next_step
from steadyvoice.speech.errors import TTSError, TTSReadTimeoutError, TTSServerError
from steadyvoice.speech.request import SpeechRequest

EXAMPLE_TEXT = "Good morning, this is a sentence of the usual length, as a caller would hear it."

_MAX_FAILURES = 1_000
"""Failures in a row after which a circuit is taken for one that never opens by them."""


class _LongestPauses(Random):
    """Random numbers of which each pause is the longest possible."""

    def random(self) -> float:
        return 1.0


@dataclass(frozen=True, slots=True)
class VoicePreview:
    """Voice with which a provider speaks a request.

    `knows_voice` is False for a voice that stands in for the requested one. `word_times`: the times of words come with
    the audio. `converted`: the audio comes in another format than the requested one.
    """

    provider: str
    voice: str
    model: str | None
    format: str
    knows_voice: bool
    word_times: bool
    converted: bool
    local: bool


@dataclass(frozen=True, slots=True)
class FailurePreview:
    """Preview of an utterance when some providers fail.

    - `failed`: names of the providers that fail, in their order.
    - `speaks`: voice that is heard instead; None if no provider is left.
    - `otherwise`: "silence", "recorded" or "error" where no provider is left.
    - `after_error`, `after_hang`: seconds at most until that provider is asked, when the others answer with errors at
      once, or with nothing at all. None if the other providers are never waited for.
    - `time_left`: seconds that are then left for its whole answer, when the others have hung; None where none is left.
    - `resume`: what happens to a stream of the last failed provider that breaks off: "word", "sentence" (nothing of
      a sentence is heard before it is complete), "restart" or "error".
    - `opens_after`: failures in a row of the last failed provider that open its circuit, after which it is passed over
      at once; None if they never do.
    """

    failed: Sequence[str]
    speaks: VoicePreview | None
    otherwise: str | None
    after_error: float
    after_hang: float
    time_left: float | None
    resume: str
    opens_after: int | None


@dataclass(frozen=True, slots=True)
class ServicePreview:
    """Voices in the order in which they are asked, the refusals of other providers, and the failures."""

    voices: Sequence[VoicePreview]
    refusals: Sequence[TTSError]
    failures: Sequence[FailurePreview]


def preview_failures(
    arguments: ServiceArguments, options: SynthesisOptions | None = None, text: str = EXAMPLE_TEXT
) -> ServicePreview:
    """Return what happens to a stream of this text when the first provider fails, the first two, and so on.

    Raises TTSConfigurationError, and TTSRequestError if no provider can speak with these options at all.
    """
    return _Preview(arguments, options or {}, text).result()


class _Preview:
    """Providers with circuits of their own on a virtual clock."""

    def __init__(self, arguments: ServiceArguments, options: SynthesisOptions, text: str) -> None:
        settings = cast(ServiceSettings, {name: value for name, value in arguments.items() if name != "providers"})
        validate_settings(arguments["providers"], settings)
        self._now = 0.0
        self._text, self._arguments, self._settings = text, arguments, settings
        in_force = SettingsInForce.of(settings)
        self._in_force = in_force
        resolved = ResolvedOptions.resolve(options)
        self._policy: UtterancePolicy = in_force.utterance_policy(resolved, hold=False, announced=False)
        self._request = replace(
            resolved.request,
            text=text,
            timestamps=resolved.request.timestamps or self._policy.on_midstream != "error",
        )

    def result(self) -> ServicePreview:
        candidates, refusals = self._candidates()
        voices = [_voice(candidate, self._request) for candidate in candidates]
        failures = [self._failure(voices, count) for count in range(1, len(voices) + 1)]
        return ServicePreview(voices, refusals, failures)

    def _clock(self) -> float:
        return self._now

    def _candidates(self) -> tuple[list[Candidate], list[TTSError]]:
        """Return the candidates of a new service, without any history."""
        self._now = 0.0
        lag = LoopLag(self._clock)
        providers = ProviderSet(clock=self._clock, wall_clock=self._clock, rng=_LongestPauses(), lag=lag)
        circuits = self._settings.get("circuits") or {}
        usual = self._settings.get("circuit") or CircuitBreakerConfig.adaptive()
        providers.replace(self._arguments["providers"], self._in_force.retry, lambda name: circuits.get(name, usual))
        providers.set_timeouts(self._in_force.timeouts, self._settings.get("provider_timeouts") or {})
        found: Candidates = find_candidates(
            self._request, list(providers.by_name.values()), self._policy.voice_substitution
        )
        return found.for_text(self._text)

    def _failure(self, voices: Sequence[VoicePreview], count: int) -> FailurePreview:
        failed = [voice.provider for voice in voices[:count]]
        _, after_error, _ = self._speaker(failed, hang=False)
        speaks, after_hang, time_left = self._speaker(failed, hang=True)
        candidates, _ = self._candidates()
        last = candidates[count - 1]
        return FailurePreview(
            failed=failed,
            speaks=None if speaks is None else voices[speaks],
            otherwise=None if speaks is not None else self._instead_of_speech,
            after_error=after_error,
            after_hang=after_hang,
            time_left=time_left,
            resume=self._resume(last),
            opens_after=_failures_until_open(last.guarded.handler.circuit.config),
        )

    def _speaker(self, failed: Collection[str], *, hang: bool) -> tuple[int | None, float, float | None]:
        """Return the index of the provider that speaks, None without one, the seconds until it is asked, and those that
        it has.
        """
        candidates, _ = self._candidates()
        deadline, length = self._policy.total, len(self._text)
        while True:
            step = next_step(
                [candidate.status(0, length) for candidate in candidates],
                now=self._now,
                remaining=deadline - self._now,
                max_attempts=self._policy.max_attempts,
            )
            match step:
                case TryProvider(index) if candidates[index].name not in failed:
                    return index, self._now, step.time_limit
                case TryProvider(index):
                    self._fail(candidates, index, step, hang=hang)
                case WaitForProvider(seconds):
                    self._now += seconds
                case _:
                    return None, self._now, None

    def _fail(self, candidates: Sequence[Candidate], index: int, step: TryProvider, *, hang: bool) -> None:
        """Let an attempt fail: at once with an error, or by the timeout for the first audio."""
        candidate = candidates[index]
        error: TTSError = TTSServerError("unavailable", provider=candidate.name, status=503)
        if hang:
            timeouts = candidate.guarded.timeouts
            limit = sum(first_audio_limit(timeouts, step, candidate.offer, len(self._text)))
            self._now += min(limit, step.time_limit, candidate.guarded.max_seconds)
            error = TTSReadTimeoutError("no audio", provider=candidate.name)
        for each in candidates:
            if each.guarded.handler.account_limits is candidate.guarded.handler.account_limits:
                each.record_possible_charge(len(self._text), error, was_accepted=False)
        candidate.history.failed(error)

    @property
    def _instead_of_speech(self) -> str:
        if not self._policy.muted:
            return "error"
        return "recorded" if self._policy.recorded else "silence"

    def _resume(self, candidate: Candidate) -> str:
        if self._policy.on_midstream != "resume":
            return self._policy.on_midstream
        return "word" if candidate.timed else "sentence"


def _voice(candidate: Candidate, request: SpeechRequest) -> VoicePreview:
    offer = candidate.offer
    return VoicePreview(
        provider=candidate.name,
        voice=offer.voice,
        model=offer.model,
        format=offer.format.name,
        knows_voice=offer.knows_voice,
        word_times=candidate.timed,
        converted=offer.format != request.format,
        local=candidate.guarded.provider.local,
    )


def _failures_until_open(config: CircuitBreakerConfig) -> int | None:
    """Return the failures in a row that open a circuit without a history."""
    circuit = CircuitBreaker("preview", config, clock=lambda: 0.0)
    for count in range(1, _MAX_FAILURES + 1):
        circuit.acquire().failure()
        if circuit.state is CircuitState.OPEN:
            return count
    return None
