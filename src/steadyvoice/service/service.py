"""Asynchronous service: synthesis through providers behind circuit breakers, with settings that change at run time."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from steadyvoice.audio.thread_pool import AudioThreadPool
from steadyvoice.breaker import CircuitBreaker, CircuitBreakerConfig, Listener
from steadyvoice.breaker.fork_safety import register_fork_aware
from steadyvoice.providers.base import Credit, HasQueue, Provider, SupportsWarmUp
from steadyvoice.service.fast_lane.output_relay import OutputRelay, ResumeRelay
from steadyvoice.service.fast_lane.plan import RelayPlan
from steadyvoice.service.fast_lane.relay import AwaitedConnection, Relay, RelayClient, open_connection, start_relay
from steadyvoice.service.fast_lane.relay_set import RelaySet
from steadyvoice.service.fleet_membership import FleetMembership
from steadyvoice.service.log_messages import log_utterance
from steadyvoice.service.observers import UtteranceObserver, UtteranceObservers
from steadyvoice.service.options import (
    ResolvedOptions,
    ServicePolicies,
    ServiceSettings,
    SettingChanges,
    SettingsInForce,
    SynthesisOptions,
    merge_settings,
    validate_settings,
)
from steadyvoice.service.pipeline.audio_limits import collect_audio, refuse_too_large
from steadyvoice.service.pipeline.candidates import GuardedProvider
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.speech_rate import SpeechRates
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.pipeline.utterance import SpeechResources, Utterance
from steadyvoice.service.provider_set import CircuitSettings, Closable, ProviderSet
from steadyvoice.service.resilience.admission_control import AdmissionControl, AdmissionLimits
from steadyvoice.service.resilience.error_handler import TTSErrorHandler
from steadyvoice.service.resilience.event_loop_lag import LoopLag
from steadyvoice.service.resilience.hedging import Hedging
from steadyvoice.service.result import ObservedCall, Speech
from steadyvoice.service.stream import AsyncSpeechStream, OpenUtterances
from steadyvoice.service.telemetry.config import parse_telemetry, require_opentelemetry
from steadyvoice.service.utterance_templates import UtteranceTemplates
from steadyvoice.speech.markup import parse_markup, strip_markup
from steadyvoice.speech.request import OnMidstream
from steadyvoice.speech.text import clean_text

if TYPE_CHECKING:
    from steadyvoice.fleet import Announcement, Fleet
    from steadyvoice.service.cache.keys import CacheConfig
    from steadyvoice.service.cache.lookup import CachedUtterance, SpeechCache
    from steadyvoice.service.conversation.conversation import AsyncConversation, ConversationOptions
    from steadyvoice.service.conversation.segment_speaker import TurnResources
    from steadyvoice.service.conversation.turn import AsyncTurn
    from steadyvoice.service.journal.recorder import JournalRecorder
    from steadyvoice.service.metrics.service_metrics import ServiceMetrics
    from steadyvoice.service.telemetry.tracing import Tracing


class AsyncTTSService:
    """Text-to-speech through a list of providers in order of preference, each behind its own circuit breaker.

    Use it with `async with`, or call `aclose()`. All of it belongs to one event loop.

    Keyword arguments: see `ServiceSettings`. Raises TypeError and TTSConfigurationError.

    - `providers`: in order of preference; all others are asked only if the ones before cannot speak.
    - `text`: the text, with its markup; in `stream()` also pieces of it.
    - `name`: name of a provider; None: all providers.
    - `path`: the TOML file.
    - `environ`: variables; those of this process if None.
    - `reason`: sentence for logs, events and the dashboard.
    - `observer`: called with each `EndedUtterance`.
    """

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[ServiceSettings]) -> None:
        validate_settings(providers, settings)
        self._clock: Callable[[], float] = settings.get("clock", time.monotonic)
        self._wall_clock: Callable[[], float] = settings.get("wall_clock", time.time)
        self._rates = SpeechRates()
        self._workers = AudioThreadPool()
        self._is_muted = False
        self._shared_causes: deque[object] = deque(maxlen=64)  # broken connections that were counted
        self.lag = LoopLag(self._clock)
        self.observers = UtteranceObservers(clock=self._clock, circuit_clock=self.lag.time, wall_clock=self._wall_clock)
        """Observers of ended utterances, to be changed by `observe`."""
        self._open = OpenUtterances(self.observers)
        self.admission = AdmissionControl(self.lag, clock=self._clock)
        # The system's random numbers: a generator with a state would give every forked child the same ones, in step.
        rng = settings.get("rng") or SystemRandom()
        self._resources = SpeechResources(
            rates=self._rates,
            workers=self._workers,
            clock=self._clock,
            wall_clock=self._wall_clock,
            lag=self.lag,
            admission=self.admission,
            on_muted=self._set_muted,
            observers=self.observers,
        )
        self._providers = ProviderSet(clock=self._clock, wall_clock=self._wall_clock, rng=rng, lag=self.lag)
        self._relays = RelaySet(self._resources)
        self._hedging: Hedging | None = None
        self._cache: SpeechCache | None = None
        self._journal: JournalRecorder | None = None
        self._in_force = SettingsInForce.of(settings)
        self._templates = UtteranceTemplates(self._in_force, self._providers, self._warm_up)
        self._apply(self._in_force, providers, dict.fromkeys(ServicePolicies.__annotations__))
        self._membership = FleetMembership(self._providers, clock=self._clock, circuit_clock=self.lag.time)
        self._membership.join(self._in_force.given.get("fleet"))
        self.telemetry = parse_telemetry(settings.get("telemetry"))
        """What is reported to OpenTelemetry; None if nothing is."""
        self.tracing = self._open_tracing()
        """Tracing of calls and circuits, if it is on."""
        self.metrics = self._open_metrics()
        """Metrics that are reported to OpenTelemetry, if they are."""
        register_fork_aware(self)

    fork_lock = None

    def after_fork(self) -> None:
        """Leave the parent's streams and providers behind: its event loop does not exist in this process."""
        self._open.after_fork()
        self.lag.after_fork()
        self.admission.after_fork()
        self._relays.after_fork()
        if self._hedging:
            self._hedging.forget()
        if self._journal:
            self._journal.after_fork()

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Return a service configured by a TOML file. Raises TTSConfigurationError, which names the key."""
        # Imported here, so that only services with a configuration file load pydantic.
        from steadyvoice.service.config_file import load_arguments

        return cls(**load_arguments(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return a service configured by the environment: STEADYVOICE_CONFIG, or vendors' API keys and a local voice.

        Raises TTSConfigurationError.
        """
        from steadyvoice.service.config_file import arguments_from_environment

        return cls(**arguments_from_environment(os.environ if environ is None else environ))

    async def synthesize(self, text: str, **options: Unpack[SynthesisOptions]) -> Speech:
        """Synthesise a text and return the whole audio.

        Nothing is delivered before it is complete, so a provider that fails midway costs time but no words. Raises
        TTSError if it cannot be spoken and `muted` is off, or the request is wrong; that includes TTSTextTooLongError
        for audio of more than `max_audio_bytes`.
        """
        resolved = self._templates.resolve(options)
        max_bytes = self._in_force.max_audio_bytes
        collector = call = None
        if isinstance(text, str):
            refuse_too_large(strip_markup(text), resolved.request.format, resolved.request.speed, max_bytes)
            if self.tracing:
                call = self.tracing.begin(resolved.request.format, text, request=resolved.request)
                call.start()
            collector = await self._relays.collect(
                text,
                self._templates.find(resolved, hold=True, announced=False),
                lambda request: self.open_stream(text, resolved, hold=True, in_flight=request, call=call),
            )
        if collector is not None:
            if report := collector.report:
                log_utterance(report)
                if self.observers:
                    self.observers.report_ended(report)
                if call:
                    call.finish(report)
                return Speech(collector.audio, resolved.request.format, report)
            stream = collector.stream
            assert stream is not None  # noqa: S101 - the relay has ended, or was handed over
        else:
            stream = self.open_stream(text, resolved, hold=True, call=call)
        async with stream:
            audio = await collect_audio(stream, stream.format, max_bytes)
        return Speech(audio, stream.format, stream.report)

    def stream(
        self, text: str | Iterable[str] | AsyncIterable[str], **options: Unpack[SynthesisOptions]
    ) -> AsyncSpeechStream:
        """Return an iterator over the audio of a text as it is made: one continuous stream of one format.

        The text may be an iterable, or an asynchronous one, of pieces that are still being written; a plain one that is
        no list or tuple runs in a thread. The request is checked here; nothing is sent before the first chunk is read.
        Raises TypeError and TTSError.
        """
        if isinstance(text, Iterable | AsyncIterable) and not isinstance(text, str | bytes):
            return self._stream_pieces(text, options)
        resolved = self._templates.resolve(options)
        utterance = None
        if isinstance(text, str):
            utterance = self._relays.utterance(text, self._templates.find(resolved, hold=False, announced=False))
        if utterance is None:
            return self.open_stream(text, resolved, hold=False)
        stream = AsyncSpeechStream(utterance, self._open.stream_ended)
        if self.tracing:
            stream.call = self.tracing.begin(resolved.request.format, text, request=resolved.request)
        self._open.add_stream(stream)
        return stream

    def conversation(self, **options: Unpack[ConversationOptions]) -> AsyncConversation:
        """Return a conversation, whose turns are spoken while their text is still being written.

        Its options apply to all of its turns: those of `synthesize()`, `timeouts`, `muted` (False unless it is given
        here), `max_text_characters` and `hold_back`. The format is pcm_24000 unless another one is named. Raises
        TypeError and TTSError.
        """
        return self.open_conversation(options, paced=True)

    def open_conversation(self, options: ConversationOptions, *, paced: bool) -> AsyncConversation:
        """Return a conversation: see `conversation()`. Unless `paced`, text is sent as soon as it can be."""
        # Imported here, so that services without conversations do not load them.
        from steadyvoice.service.conversation.conversation import AsyncConversation, ConversationServices

        services = ConversationServices(
            self._turn_resources,
            lambda *choices: self._in_force.turn_policy(*choices),
            self._observe_turn if self.tracing else self._open.add_turn,
            self._open.turn_ended,
        )
        self._warm_up()
        return AsyncConversation(services, self._clock, options, paced=paced)

    def _stream_pieces(
        self, pieces: Iterable[str] | AsyncIterable[str], options: SynthesisOptions
    ) -> AsyncSpeechStream:
        """Return a stream of text that is still being written: one turn, as fast as it can be had."""
        from steadyvoice.service.conversation.turn_utterance import TurnUtterance

        # Held back, because bytes cannot announce that a sentence which broke off is spoken again.
        own = {"format": "mp3_44100_128", **options, "muted": self.settings["muted"], "hold_back": True}
        conversation = self.open_conversation(cast("ConversationOptions", own), paced=False)
        stream = AsyncSpeechStream(TurnUtterance(conversation, pieces), self._open.stream_of_turn_ended)
        self._open.add_stream(stream)
        return stream

    def _observe_turn(self, turn: AsyncTurn) -> None:
        """Note that a turn was opened, and have it observed."""
        assert self.tracing is not None  # noqa: S101 - its caller has looked
        turn.call = self.tracing.begin(turn.format, None, turn_id=turn.id)
        self._open.add_turn(turn)

    def _turn_resources(self, timeouts: TimeoutConfig | None) -> TurnResources:
        from steadyvoice.service.conversation.segment_speaker import TurnResources

        def providers() -> list[GuardedProvider]:
            return self._providers.with_timeouts(timeouts, self._in_force.given.get("provider_timeouts") or {})

        return TurnResources(self._resources, providers, self._hedging, self._shared_causes)

    def open_stream(
        self,
        text: str,
        options: ResolvedOptions,
        *,
        hold: bool,
        announced: bool = False,
        in_flight: InFlightRequest | None = None,
        call: ObservedCall | None = None,
    ) -> AsyncSpeechStream:
        """Return a stream for options that were resolved before: see `stream()`.

        With `hold` no audio is delivered before it is complete. `announced`: the caller sends the outcome with the
        first byte and cannot change it, so that an error is raised instead of silence after speech. `in_flight`: a
        candidate was sent exactly this already, under admission. `call`: it is part of an observed one.
        """
        utterance = self._utterance(text, options, hold=hold, announced=announced, in_flight=in_flight)
        stream = AsyncSpeechStream(utterance, self._open.stream_ended)
        if self.tracing:
            stream.call = call or self.tracing.begin(options.request.format, text, request=options.request)
        self._open.add_stream(stream)
        return stream

    def get_error_state(self) -> dict[str, Any]:
        """Return the error state as a JSON-ready dict: that of the first provider, and that of each one by name."""
        states = {
            name: guarded.handler.get_error_state() | {"timeouts": guarded.timeouts.as_dict()}
            for name, guarded in self._providers.by_name.items()
        }
        first = next(iter(states.values()))
        cache = self._cache.state() if self._cache else None
        hedging = self._hedging.as_dict() if self._hedging else None
        return {
            **first,
            "is_muted": self._is_muted,
            "cache": cache,
            "hedging": hedging,
            "overload": self.admission.as_dict(),
            "fleet": self.fleet_status(),
            "journal": self._journal.state() if self._journal else None,
            "providers": states,
        }

    @property
    def fleet(self) -> Fleet | None:
        """Fleet that this process belongs to; None without one."""
        return self._membership.fleet

    def follow_fleet(self, listener: Callable[[Announcement], object]) -> Callable[[], None]:
        """Call `listener` with the announcements of other replicas, those in force included; return its end.

        It is called in the thread of the fleet's heartbeat, also after a change of the fleet.
        """
        return self._membership.follow(listener)

    def fleet_status(self) -> dict[str, Any] | None:
        """Return the fleet as this process has it, JSON-ready; None without one."""
        return self._membership.status()

    @property
    def max_audio_bytes(self) -> int:
        """Bytes of audio that one request may hold in memory."""
        return self._in_force.max_audio_bytes

    @property
    def is_muted(self) -> bool:
        """True if the last utterance was silence because no provider could speak."""
        return self._is_muted

    def reset_circuit_breaker(self, name: str | None = None, *, reason: str = "reset") -> None:
        """Close the circuit of one provider, or all circuits, and release the holds. Raises KeyError."""
        for handler in [self.handler(name)] if name else [each.handler for each in self._providers.by_name.values()]:
            handler.reset_circuit_breaker(reason)
        self._is_muted = False

    def reset_everywhere(self, name: str | None = None, *, reason: str = "reset everywhere") -> None:
        """Close the circuit of one provider, or all circuits, and release the holds, at all replicas of the fleet.

        Raises KeyError.
        """
        self.reset_circuit_breaker(name, reason=reason)
        if fleet := self.fleet:
            for each in [name] if name else list(self._providers.by_name):
                fleet.reset_everywhere(each, reason)

    def open_everywhere(
        self, name: str, *, reason: str = "forced open everywhere", duration: float | None = None
    ) -> None:
        """Force the circuit of a provider open at all replicas of the fleet, for `duration` seconds.

        None: for a day, or until it is reset everywhere. Raises KeyError.
        """
        handler = self.handler(name)
        if fleet := self.fleet:
            fleet.open_everywhere(name, reason, duration)
        else:
            handler.circuit.force_open(reason, duration)

    async def check_credit(self) -> dict[str, Credit]:
        """Request the remaining credit from every vendor that states it, by name of the provider; this is free.

        From then on `get_error_state()` forecasts the end of the credit. The service also requests it by itself, every
        15 minutes while credit is spent or exhausted. Raises TTSError.
        """
        credits = {
            name: await guarded.handler.account_limits.check() for name, guarded in self._providers.by_name.items()
        }
        return {name: credit for name, credit in credits.items() if credit}

    def handler(self, name: str) -> TTSErrorHandler:
        """Return the error handler of a provider. Raises KeyError."""
        if name not in self._providers.by_name:
            raise KeyError(f"no provider {name!r}; known ones are {', '.join(self._providers.by_name)}")
        return self._providers.by_name[name].handler

    def timeouts(self, name: str) -> TimeoutConfig:
        """Return the timeouts of a provider, as they apply from the next utterance on. Raises KeyError."""
        return self._providers.by_name[name].timeouts

    @property
    def settings(self) -> ServiceSettings:
        """Settings in force, defaults included."""
        return self._in_force.with_defaults()

    @property
    def providers(self) -> list[Provider]:
        """Providers in order of preference."""
        return [guarded.provider for guarded in self._providers.by_name.values()]

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Circuit breakers by name of the provider."""
        return {name: guarded.handler.circuit for name, guarded in self._providers.by_name.items()}

    @property
    def streams(self) -> list[AsyncSpeechStream]:
        """Streams in progress."""
        return self._open.streams

    @property
    def turns(self) -> list[AsyncTurn]:
        """Turns of conversations whose text has begun and that have not ended."""
        return self._open.turns

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit, later ones included; return a function that ends it.

        See CircuitBreaker.subscribe for how listeners are called.
        """
        return self._providers.subscribe(listener)

    def observe(self, observer: UtteranceObserver) -> Callable[[], None]:
        """Call `observer` with every utterance and turn that ends from now on; return a function that ends it.

        Without observers, utterances cost nothing more. Those of the gateway's usual requests are reported up to 50 ms
        after their end.
        """
        return self.observers.observe(observer)

    def relay(
        self, text: str, options: ResolvedOptions, client: RelayClient, connect_seconds: float = 0.0
    ) -> Relay | None:
        """Send a usual request for a stream of bare audio; None, and nothing has happened, for any other.

        `text` is clean. What becomes unusual later is handed over to the client, to be continued by `open_stream`.
        `connect_seconds` is the time that the request has waited for `open_connection`.
        """
        # What is known is looked up here, because each method would be a call for every request.
        template = options.templates.get((False, True)) if options.settings is self._in_force else None
        if template is None:
            template = self._templates.find(options, hold=False, announced=True)
        plan = template.relay_plan
        if not isinstance(plan, RelayPlan) or (plan.found.bases and not plan.found.is_current):
            plan = self._relays.plan(template)
        if plan is None:
            return None
        kind = ResumeRelay if plan.resumes else Relay
        return start_relay(kind, plan, text, self._relays.services, client, connect_seconds, OutputRelay)

    def open_connection(self, text: str, options: ResolvedOptions) -> AwaitedConnection | None:
        """Open a connection for a usual request, if only that was missing when `relay` returned None."""
        plan = self._relays.plan(self._templates.find(options, hold=False, announced=True))
        return open_connection(plan, text, self._relays.services) if plan else None

    @property
    def relays(self) -> Collection[Relay]:
        """Relays in progress."""
        return self._relays.running

    def due_relays(self) -> list[Relay]:
        """Return the relays that may be near a timeout."""
        now = self._clock()
        return [relay for relay in self._relays.running if relay.due <= now]

    @property
    def on_midstream(self) -> OnMidstream:
        """Setting of what happens when a stream breaks off."""
        return self._in_force.on_midstream

    async def reconfigure(self, **changes: Unpack[SettingChanges]) -> None:
        """Change settings or providers at run time: either all that are named, or nothing. Others stay.

        Changes apply from the next utterance on. A provider whose name stays keeps its circuit with all its results. A
        removed provider is closed after the last utterance that may need it. `clock`, `wall_clock` and `rng` cannot be
        changed. Raises TypeError and TTSConfigurationError.
        """
        providers = changes.get("providers", self.providers)
        before = self._in_force.given
        settings = merge_settings(before, providers, changes)
        self._relays.hand_over_all()
        changed = {name for name in changes if changes.get(name) != before.get(name)}
        changed |= _circuit_settings_in(changes)
        # First, because a file that cannot be read must not leave the settings half changed.
        former = self._apply(SettingsInForce.of(settings), providers, changed)
        if former and self._cache:
            self._cache.close_running()
        self._open.close_unused(former)
        if "fleet" in changed:
            await self._membership.change(self._in_force.given.get("fleet"))
        await self._open.settled()

    async def aclose(self) -> None:
        """Close connections and child processes.

        Streams in progress end with TTSStreamInterruptedError. As when a caller leaves, that counts against a provider
        only if it was overdue.
        """
        if self._relays.running:
            self._relays.hand_over_all()
            await asyncio.sleep(0)  # their streams begin
        await self._open.aclose()
        if self._hedging:
            await self._hedging.aclose()
        await self._open.close_replaced()
        self.close_metrics()
        await self._membership.leave()
        if self._cache:
            await self._cache.aclose()
        if self._journal:
            await self._journal.aclose()
        self._workers.close()
        closed = await asyncio.gather(
            *(closable.aclose() for closable in self._providers.closables), return_exceptions=True
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

    def _apply(
        self, in_force: SettingsInForce, providers: Sequence[Provider], changed: Collection[str]
    ) -> list[Closable]:
        """Put checked settings into force, and return what new utterances will not use any more."""
        self._in_force = self._templates.in_force = in_force
        self._configure_admission(in_force.given, providers)
        circuits = self._circuit_settings(are_given=bool({"circuit", "circuits"} & set(changed)))
        former = self._providers.replace(providers, in_force.retry, circuits)
        self._providers.set_timeouts(in_force.timeouts, in_force.given.get("provider_timeouts") or {})
        if "hedging" in changed:
            former += [self._hedging] if self._hedging else []
            self._hedging = Hedging(in_force.hedging, self._clock) if in_force.hedging else None
        if "cache" in changed:
            former += [self._cache] if self._cache else []
            self._cache = self._new_cache(in_force.cache) if in_force.cache else None
        if "journal" in changed and self._journal is not (journal := self._new_journal()):
            former += [self._journal] if self._journal else []
            self._journal = journal
        elif self._journal:
            self._journal.settings_changed()
        return former

    def _new_cache(self, config: CacheConfig) -> SpeechCache:
        from steadyvoice.service.cache.lookup import SpeechCache  # imports SQLite, which takes a megabyte of memory

        return SpeechCache(config, clock=self._clock, wall_clock=self._wall_clock)

    def _new_journal(self) -> JournalRecorder | None:
        """Return the recorder of the journal that is configured; the present one if it is that already."""
        config, present = self._in_force.journal, self._journal
        if present and present.config == config:
            return present
        if present:
            present.detach()
        if config is None:
            return None
        # Imported here, so that only services with a journal load it.
        from steadyvoice.service.journal.recorder import JournalRecorder

        return JournalRecorder(config, self, clock=self.lag.time, wall_clock=self._wall_clock)

    def _configure_admission(self, settings: ServiceSettings, providers: Sequence[Provider]) -> None:
        queues = {each.name: _queue_wait(each) for each in providers if isinstance(each, HasQueue)}
        workers = self._workers
        self.admission.waits = {"audio workers": lambda: workers.queue_wait, **queues}
        self.admission.configure(AdmissionLimits.from_settings(settings))

    def _circuit_settings(self, *, are_given: bool) -> CircuitSettings:
        """Return a lookup of each provider's circuit settings; unless they are given, existing circuits keep theirs."""
        overrides, known = self._in_force.given.get("circuits", {}), self._providers.by_name.keys()
        usual = self._in_force.given.get("circuit") or CircuitBreakerConfig.adaptive()
        return lambda name: None if name in known and not are_given else overrides.get(name, usual)

    def _utterance(
        self,
        text: str,
        options: ResolvedOptions,
        *,
        hold: bool,
        announced: bool,
        in_flight: InFlightRequest | None = None,
    ) -> Utterance | CachedUtterance:
        template = self._templates.find(options, hold=hold, announced=announced)
        request = template.request.with_text(clean_text(text) if isinstance(text, str) else text)
        marked = parse_markup(request.text)
        words = request.with_text(marked.words.text) if marked else request  # voices are chosen by its letters
        utterance = Utterance(
            request,
            template.candidates_for(words.text) or self._templates.find_candidates(words, template),
            template.policy,
            self._resources,
            hedging=self._hedging if options.hedging else None,
            marked=marked,
            in_flight=in_flight,
        )
        if self._cache and request.text and options.cache:
            return self._cache.utterance(utterance, request, template.policy)
        return utterance

    def _open_tracing(self) -> Tracing | None:
        """Return the tracing of this service. Raises TTSConfigurationError if OpenTelemetry is not installed."""
        if self.telemetry is None or not self.telemetry.traces:
            return None
        require_opentelemetry()
        # Imported here, so that only services with tracing load it.
        from steadyvoice.service.telemetry.tracing import Tracing

        return Tracing(self.telemetry, self._providers, self._wall_clock)

    def _open_metrics(self) -> ServiceMetrics | None:
        """Return the metrics of this service, exported. Raises TTSConfigurationError without OpenTelemetry."""
        if self.telemetry is None or not self.telemetry.metrics:
            return None
        require_opentelemetry()
        # Imported here, so that only services with metrics load it.
        from steadyvoice.service.metrics.service_metrics import ServiceMetrics
        from steadyvoice.service.telemetry.metric_export import MetricExport

        metrics = ServiceMetrics(self)
        metrics.observe_calls()
        MetricExport.of(self.telemetry.meter_provider).add(metrics)
        return metrics

    def close_metrics(self) -> None:
        """Report the metrics as they are for the last time: the service is about to be closed, or its gateway."""
        metrics, self.metrics = self.metrics, None
        if metrics and self.telemetry:
            from steadyvoice.service.telemetry.metric_export import MetricExport

            MetricExport.of(self.telemetry.meter_provider).remove(metrics)
            metrics.close()

    def _warm_up(self) -> None:
        """Start local engines that take a while, so that they are ready once they are needed, and let a fleet act."""
        if member := self._membership.member:
            member.attach()
        for provider in self.providers:
            if isinstance(provider, SupportsWarmUp):
                provider.warm_up()

    def _set_muted(self, muted: bool) -> None:
        self._is_muted = muted


def _queue_wait(engine: HasQueue) -> Callable[[], float]:
    return lambda: engine.queue_wait


def _circuit_settings_in(changes: SettingChanges) -> set[str]:
    """Return the circuit settings named in changes, equal ones included: a circuit may have been changed directly."""
    return {name for name in ("circuit", "circuits") if name in changes}
