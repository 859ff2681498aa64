"""Asynchronous service: synthesis through a list of providers, each behind its own circuit breaker."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, Self, Unpack
from typing import cast as typed
from weakref import WeakSet

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, Listener
from steadyvoice.breaker.fork_safety import keep_until_exit, register_fork_aware
from steadyvoice.providers.base import Credit, HasQueue, PreparedRequest, Provider
from steadyvoice.service.cache.keys import parse_cache_config
from steadyvoice.service.cache.lookup import CachedUtterance, SpeechCache
from steadyvoice.service.options import (
    ResolvedOptions,
    ServicePolicies,
    ServiceSettings,
    SettingChanges,
    SynthesisOptions,
    UtterancePolicy,
    UtteranceTemplate,
    merge_settings,
    validate_settings,
)
from steadyvoice.service.pipeline.audio_limits import MAX_AUDIO_BYTES, collect_audio, refuse_too_large
from steadyvoice.service.pipeline.candidates import Candidate, Candidates, find_candidates
from steadyvoice.service.pipeline.passthrough import prepare_passthrough
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.service.provider_set import CircuitSettings, Closable, ProviderSet
from steadyvoice.service.resilience.admission_control import MAX_ACTIVE, MAX_QUEUED, QUEUE_TIMEOUT, AdmissionControl
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.hedging import Hedging
from steadyvoice.service.resilience.retry import RetryConfig
from steadyvoice.service.result import Speech
from steadyvoice.service.stream import AsyncSpeechStream, OpenStreams
from steadyvoice.speech.markup import parse_markup, strip_markup
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import clean_text

_log = logging.getLogger("steadyvoice.calls")


class ReplacedProviders:
    """One service's. Everything in it belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Closable, WeakSet[object]]] = []
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, closables: Iterable[Closable], users: Iterable[object]) -> None:
        """Close these when none of the users is left, whether they say goodbye or are just forgotten."""
        self._waiting += [(each, WeakSet(users)) for each in closables]
        self.look()

    def left(self, user: object) -> None:
        """This one is through."""
        if self._waiting:
            for _, users in self._waiting:
                users.discard(user)
            self.look()

    def look(self) -> None:
        """Begin to close what nobody needs any more."""
        for closable, users in list(self._waiting):
            if not users:
                self._waiting.remove((closable, users))
                task = asyncio.get_running_loop().create_task(_close(closable))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def settled(self) -> None:
        """Wait until everything is closed that can be."""
        if self._closing:
            await asyncio.wait(set(self._closing))

    async def aclose(self) -> None:
        """Close all of it now."""
        for _, users in self._waiting:
            users.clear()
        self.look()
        await self.settled()


async def _close(closable: Closable) -> None:
    try:
        await closable.aclose()
    except Exception as error:
        _log.warning("what is not used any more could not be closed: %s", error, exc_info=error)


class AsyncTTSService:
    """Speaks through a list of providers, in order of preference, each behind its own circuit.

    Use it as `async with`, or call `aclose()`. Everything in it belongs to one event loop.
    """

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[ServiceSettings]) -> None:
        validate_settings(providers, settings)
        self._clock: Callable[[], float] = settings.get("clock", time.monotonic)
        self._wall_clock: Callable[[], float] = settings.get("wall_clock", time.time)
        self._rates = SpeechRates()
        self._workers = AudioThreadPool()
        self._is_muted = False
        self._open = OpenStreams[AsyncSpeechStream]()
        self._retired = ReplacedProviders()
        self.lag = LoopLag(self._clock)
        self.admission = AdmissionControl(self.lag, clock=self._clock)
        # The system's random numbers: a generator with a state would give every forked child the same ones, in step.
        rng = settings.get("rng") or SystemRandom()
        self._roster = ProviderSet(clock=self._clock, wall_clock=self._wall_clock, rng=rng, lag=self.lag)
        self._hedging: Hedging | None = None
        self._memory: SpeechCache | None = None
        self._settings: ServiceSettings = {}
        self._settle(settings, providers, dict.fromkeys(ServicePolicies.__annotations__))
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Part from what the parent is speaking and closing: its event loop did not come along."""
        for stream in self._open.all():
            stream.leave_behind()
        self._open = OpenStreams()
        self.lag.after_fork()
        self.admission.after_fork()
        keep_until_exit(self._retired)
        self._retired = ReplacedProviders()
        if self._hedging:
            self._hedging.forget()

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Build it from a TOML file. Raises TTSConfigurationError that names the offending key."""
        from steadyvoice.service.config_file import load_arguments  # pydantic is for those who use a file

        return cls(**load_arguments(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Build it from what the environment offers: STEADYVOICE_CONFIG, vendors' API keys, a local voice."""
        from steadyvoice.service.config_file import arguments_from_environment

        return cls(**arguments_from_environment(os.environ if environ is None else environ))

    async def synthesize(self, text: str, **wishes: Unpack[SynthesisOptions]) -> Speech:
        """Speak a text and wait for the whole.

        Nobody hears it before it is complete, so a provider that dies midway costs time but no words.
        Raises TTSError when it cannot be spoken and silence is not allowed, or the request is wrong; that includes
        TTSTextTooLongError for audio of more than `max_audio_bytes`.
        """
        style = ResolvedOptions.of(wishes)
        most = self.max_audio_bytes
        if isinstance(text, str):
            refuse_too_large(strip_markup(text), style.request.format, style.request.speed, most)
        stream = self.open_stream(text, style, hold=True)
        async with stream:
            audio = await collect_audio(stream, stream.format, most)
        return Speech(audio, stream.format, stream.report)

    def stream(self, text: str, **wishes: Unpack[SynthesisOptions]) -> AsyncSpeechStream:
        """Speak a text and hand out the audio while it is made: one continuous stream of one format.

        The request is checked here; nothing is sent before the first chunk is asked for.
        """
        return self.open_stream(text, ResolvedOptions.of(wishes), hold=False)

    def open_stream(
        self, text: str, style: ResolvedOptions, *, hold: bool, announced: bool = False
    ) -> AsyncSpeechStream:
        """Prepare an utterance with options that were checked before: see `stream()`.

        With `hold` no audio comes before it is whole. `announced`: the caller tells the outcome with the first byte,
        for good, so that an error takes the place of silence after speech.
        """
        stream = AsyncSpeechStream(self._utterance(text, style, hold=hold, announced=announced), self._forget)
        self._open.add(stream)
        return stream

    def get_error_state(self) -> dict[str, Any]:
        """How everything is doing, ready for JSON: the first provider's state, and each one's by name."""
        states = {
            name: speaker.handler.get_error_state() | {"timeouts": speaker.timeouts.as_dict()}
            for name, speaker in self._roster.by_name.items()
        }
        first = next(iter(states.values()))
        cache = self._memory.state() if self._memory else None
        hedging = self._hedging.as_dict() if self._hedging else None
        return {
            **first,
            "is_muted": self._is_muted,
            "cache": cache,
            "hedging": hedging,
            "overload": self.admission.as_dict(),
            "providers": states,
        }

    @property
    def max_audio_bytes(self) -> int:
        """How many bytes of audio one request may hold in memory."""
        return self._settings.get("max_audio_bytes") or MAX_AUDIO_BYTES

    @property
    def is_muted(self) -> bool:
        """Whether the last utterance was silence, for nobody could speak."""
        return self._is_muted

    def reset_circuit_breaker(self, name: str | None = None, *, reason: str = "reset") -> None:
        """Close one provider's circuit by hand, or all, and release what is on hold. Raises KeyError."""
        for handler in [self.handler(name)] if name else [s.handler for s in self._roster.by_name.values()]:
            handler.reset_circuit_breaker(reason)
        self._is_muted = False

    async def check_credit(self) -> dict[str, Credit]:
        """Ask every vendor that can tell what its account may still spend, by provider's name; it costs nothing.

        From then on `get_error_state()` forecasts when that ends. The service asks by itself, too: every quarter of an
        hour while credit is spent, or exhausted. Raises TTSError.
        """
        told = {name: await speaker.handler.account_limits.check() for name, speaker in self._roster.by_name.items()}
        return {name: credit for name, credit in told.items() if credit}

    def handler(self, name: str) -> TTSErrorHandler:
        """A provider's guard. Raises KeyError."""
        if name not in self._roster.by_name:
            raise KeyError(f"no provider {name!r}: there is {', '.join(self._roster.by_name)}")
        return self._roster.by_name[name].handler

    def timeouts(self, name: str) -> TimeoutConfig:
        """Timeouts of a provider, as they hold from the next utterance on. Raises KeyError."""
        return self._roster.by_name[name].timeouts

    @property
    def settings(self) -> ServiceSettings:
        """How it behaves, with what goes without saying."""
        usual: ServiceSettings = {
            "timeouts": self._timeouts,
            "retry": self._retry,
            "muted": True,
            "on_midstream": "resume",
            "voice_substitution": "any",
            "cache": None,
            "max_active": MAX_ACTIVE,
            "max_queued": MAX_QUEUED,
            "queue_timeout": QUEUE_TIMEOUT,
            "max_audio_bytes": MAX_AUDIO_BYTES,
        }
        said = {name: value for name, value in self._settings.items() if value is not None}
        return typed(ServiceSettings, {**usual, **said})

    @property
    def providers(self) -> list[Provider]:
        """Who speaks, in order of preference."""
        return [speaker.provider for speaker in self._roster.by_name.values()]

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Every circuit, by its provider's name."""
        return {name: speaker.handler.circuit for name, speaker in self._roster.by_name.items()}

    @property
    def streams(self) -> list[AsyncSpeechStream]:
        """What is being spoken now."""
        return [stream for stream in self._open.all() if stream.begun]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit, of those to come as well.

        Call what is returned to stop. See CircuitBreaker.subscribe for how listeners are called.
        """
        return self._roster.subscribe(listener)

    async def reconfigure(self, **changes: Unpack[SettingChanges]) -> None:
        """Change settings or providers while it runs, all of what is named or nothing; what is not named stays.

        It holds from the next utterance on: what is being spoken is left alone. A provider whose name stays keeps its
        circuit, with all its evidence. Who is not in `providers` any more is closed when the last utterance is over
        that may need it. `clock`, `wall_clock` and `rng` are for good. Raises TypeError and TTSConfigurationError.
        """
        providers = changes.get("providers", self.providers)
        settings = merge_settings(self._settings, providers, changes)
        changed = {name for name in changes if changes.get(name) != self._settings.get(name)} | _circuit_settings_in(
            changes
        )
        former = self._settle(settings, providers, changed)
        if former and self._memory:
            self._memory.close_running()
        self._retired.add(former, self._open.all())
        await self._retired.settled()

    async def aclose(self) -> None:
        """Let go of connections and child processes.

        What is still being spoken ends with TTSStreamInterruptedError. As when its caller leaves, that counts against
        nobody but a provider that was overdue.
        """
        for stream in self._open.all():
            await stream.interrupt()
        if self._hedging:
            await self._hedging.aclose()
        await self._retired.aclose()
        if self._memory:
            await self._memory.aclose()
        self._workers.close()
        closed = await asyncio.gather(
            *(closable.aclose() for closable in self._roster.closables), return_exceptions=True
        )
        for error in closed:
            if isinstance(error, BaseException):
                raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _forget(self, stream: AsyncSpeechStream) -> None:
        """Note that a stream is over, which may have been the last to use a provider that was replaced."""
        if self._open.discard(stream):
            self._retired.left(stream)

    def _settle(
        self, settings: ServiceSettings, providers: Sequence[Provider], changed: Collection[str]
    ) -> list[Closable]:
        """Make these settings, which are sound, the ones in force; and tell what nobody new will need."""
        self._settings = settings
        self._timeouts = settings.get("timeouts") or TimeoutConfig()
        self._retry = settings.get("retry") or RetryConfig()
        self._admit(settings, providers)
        circuits = self._circuits(said=bool({"circuit", "circuits"} & set(changed)))
        former = self._roster.adopt(providers, self._retry, circuits)
        self._roster.time(self._timeouts, settings.get("provider_timeouts") or {})
        if "hedging" in changed:
            hedging = settings.get("hedging")
            former += [self._hedging] if self._hedging else []
            self._hedging = Hedging(hedging, self._clock) if hedging else None
        if "cache" in changed:
            cache = parse_cache_config(settings.get("cache"))
            former += [self._memory] if self._memory else []
            self._memory = SpeechCache(cache, clock=self._clock, wall_clock=self._wall_clock) if cache else None
        return former

    def _admit(self, settings: ServiceSettings, providers: Sequence[Provider]) -> None:
        queues = {each.name: _queue_wait(each) for each in providers if isinstance(each, HasQueue)}
        workers = self._workers
        self.admission.waits = {"audio workers": lambda: workers.queue_wait, **queues}
        active, queued = settings.get("max_active"), settings.get("max_queued")
        timeout = settings.get("queue_timeout")
        self.admission.configure(
            max_active=MAX_ACTIVE if active is None else active,
            max_queued=MAX_QUEUED if queued is None else queued,
            queue_timeout=QUEUE_TIMEOUT if timeout is None else timeout,
        )

    def _circuits(self, *, said: bool) -> CircuitSettings:
        """What each provider's circuit is to be; where nothing is said, those that there are stay as they are."""
        own, known = self._settings.get("circuits", {}), self._roster.by_name.keys()
        usual = self._settings.get("circuit") or CircuitBreakerConfig.adaptive()
        return lambda name: None if name in known and not said else own.get(name, usual)

    def _utterance(
        self, text: str, style: ResolvedOptions, *, hold: bool, announced: bool
    ) -> Utterance | CachedUtterance:
        staging = self._staging(style, hold=hold, announced=announced)
        request = staging.request.with_text(clean_text(text) if isinstance(text, str) else text)
        marked = parse_markup(request.text)
        words = request.with_text(marked.words.text) if marked else request  # by whose letters voices are chosen
        utterance = Utterance(
            request,
            staging.cast or self._cast(words, staging),
            staging.policy,
            rates=self._rates,
            workers=self._workers,
            clock=self._clock,
            wall_clock=self._wall_clock,
            lag=self.lag,
            admission=self.admission,
            on_muted=self._set_muted,
            hedging=self._hedging if style.hedging else None,
            marked=marked,
        )
        if self._memory and request.text and style.cache:
            return CachedUtterance(utterance, request, staging.policy, self._memory)
        return utterance

    def _staging(self, style: ResolvedOptions, *, hold: bool, announced: bool) -> UtteranceTemplate:
        """A style as it is to be used now. It is worked out once, until settings or providers change."""
        if style.era is not self._settings:
            style.era, style.templates = self._settings, {}
        found = style.templates.get((hold, announced))
        if found is None:
            found = style.templates[hold, announced] = self._staged(style, hold=hold, announced=announced)
        return found

    def _staged(self, style: ResolvedOptions, *, hold: bool, announced: bool) -> UtteranceTemplate:
        policy = UtterancePolicy(
            timeouts=self._timeouts,
            muted=self._settings.get("muted", True),
            on_midstream=style.on_midstream or self._settings.get("on_midstream", "resume"),
            voice_substitution=style.voice_substitution or self._settings.get("voice_substitution", "any"),
            max_attempts=self._retry.max_attempts,
            deadline=style.deadline,
            hold=hold,
            announced=announced,
            most_bytes=self.max_audio_bytes,
        )
        # Times tell where to go on, and at the end that this was all of it.
        request = replace(style.request, timestamps=style.request.timestamps or policy.on_midstream != "error")
        return UtteranceTemplate(request, policy)

    def _cast(self, request: SpeechRequest, staging: UtteranceTemplate) -> Candidates:
        """Find who may speak this, and remember it for the next text if that makes no difference."""
        policy = staging.policy
        found = find_candidates(request, list(self._roster.by_name.values()), policy.voice_substitution)
        if policy.on_midstream == "error" and not policy.hold:
            for part in found.candidates:
                part.ready = self._ready(request, staging, part)
        if found.for_any_text:
            staging.cast = found
        return found

    def _ready(self, request: SpeechRequest, staging: UtteranceTemplate, part: Candidate) -> PreparedRequest | None:
        """What this one is asked, for any text. Beside one that goes by the letters, it is found anew with each."""
        known = staging.ready.get(part.name)
        if known is None or known[0] != part.offer:
            ready = prepare_passthrough(part.guarded.provider, request, part.offer)
            known = staging.ready[part.name] = (part.offer, ready)
        return known[1]

    def _set_muted(self, muted: bool) -> None:
        self._is_muted = muted


def _queue_wait(engine: HasQueue) -> Callable[[], float]:
    return lambda: engine.queue_wait


def _circuit_settings_in(changes: SettingChanges) -> set[str]:
    """Circuits are told anew even when the settings say what they said before: somebody may have changed one since."""
    return {name for name in ("circuit", "circuits") if name in changes}
