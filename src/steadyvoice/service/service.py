"""The service: speech in bounded time from the first provider that can, and the account of why."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, Unpack, cast
from weakref import WeakSet

from steadyvoice.breaker import CircuitBreaker, Listener
from steadyvoice.providers.provider import Credit, HasCredential, Provider, TellsCredit
from steadyvoice.service.allowance import Allowance
from steadyvoice.service.cache import checked_cache
from steadyvoice.service.casting import Speaker
from steadyvoice.service.handler import TTSErrorHandler
from steadyvoice.service.hedging import Hedging
from steadyvoice.service.log import log_spoken
from steadyvoice.service.output import exactly_sized
from steadyvoice.service.pace import Pace
from steadyvoice.service.recall import Memory, Recalled
from steadyvoice.service.retry import RetryConfig
from steadyvoice.service.spoken import Account, Speech
from steadyvoice.service.terms import Terms
from steadyvoice.service.timeouts import TimeoutConfig, check_deadline
from steadyvoice.service.utterance import Utterance
from steadyvoice.service.wishes import Settings, Wishes, check_settings, check_wishes
from steadyvoice.speech.errors import TTSCancelledError, TTSStreamInterruptedError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.text import cleaned


class AsyncTTSService:
    """Speaks through a list of providers, in order of preference, each behind its own circuit.

    Use it as `async with`, or call `aclose()`. Everything in it belongs to one event loop.
    """

    def __init__(self, providers: Sequence[Provider], **settings: Unpack[Settings]) -> None:
        check_settings(providers, settings)
        self._settings = settings
        self._timeouts = settings.get("timeouts") or TimeoutConfig()
        self._retry = settings.get("retry") or RetryConfig()
        self._clock: Callable[[], float] = settings.get("clock", time.monotonic)
        self._wall: Callable[[], float] = settings.get("wall", time.time)
        self._rng = settings.get("rng") or Random()
        self._pace = Pace()
        self._is_muted = False
        self._live: WeakSet[AsyncSpeechStream] = WeakSet()
        self._allowances: dict[str, Allowance] = {}  # by credential
        self._speakers = {provider.name: self._guarded(provider) for provider in providers}
        hedging = settings.get("hedging")
        self._hedging = Hedging(hedging, self._clock) if hedging else None
        cache = checked_cache(settings.get("cache"))
        self._memory = Memory(cache, clock=self._clock, wall=self._wall) if cache else None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str]) -> Self:
        """Build it from a TOML file. Raises TTSConfigurationError that names the offending key."""
        from steadyvoice.service.settings import read_file  # pydantic is for those who use a file

        return cls(**read_file(Path(path), os.environ))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Build it from what the environment offers: STEADYVOICE_CONFIG, vendors' API keys, a local voice."""
        from steadyvoice.service.settings import from_environment

        return cls(**from_environment(os.environ if environ is None else environ))

    async def synthesize(self, text: str, **wishes: Unpack[Wishes]) -> Speech:
        """Speak a text and wait for the whole.

        Nobody hears it before it is complete, so a provider that dies midway costs time but no words.
        Raises TTSError when it cannot be spoken and silence is not allowed, or the request is wrong.
        """
        stream = AsyncSpeechStream(self, text, wishes, hold=True)
        async with stream:
            audio = b"".join([chunk async for chunk in stream])
        if stream.format.codec is Codec.WAV:
            audio = exactly_sized(audio)
        return Speech(audio, stream.format, stream.spoken)

    def stream(self, text: str, **wishes: Unpack[Wishes]) -> AsyncSpeechStream:
        """Speak a text and hand out the audio while it is made: one continuous stream of one format.

        The request is checked here; nothing is sent before the first chunk is asked for.
        """
        return AsyncSpeechStream(self, text, wishes, hold=False)

    def get_error_state(self) -> dict[str, Any]:
        """How everything is doing, ready for JSON: the first provider's state, and each one's by name."""
        states = {name: speaker.handler.get_error_state() for name, speaker in self._speakers.items()}
        first = next(iter(states.values()))
        cache = self._memory.state() if self._memory else None
        hedging = self._hedging.as_dict() if self._hedging else None
        return {**first, "is_muted": self._is_muted, "cache": cache, "hedging": hedging, "providers": states}

    def reset_circuit_breaker(self, name: str | None = None, *, reason: str = "reset") -> None:
        """Close one provider's circuit by hand, or all, and release what is on hold. Raises KeyError."""
        for handler in [self.handler(name)] if name else [s.handler for s in self._speakers.values()]:
            handler.reset_circuit_breaker(reason)
        self._is_muted = False

    async def check_credit(self) -> dict[str, Credit]:
        """Ask every vendor that can tell what its account may still spend, by provider's name; it costs nothing.

        From then on `get_error_state()` forecasts when that ends. The service asks by itself, too: every quarter of an
        hour while credit is spent, or exhausted. Raises TTSError.
        """
        told = {name: await speaker.handler.allowance.check() for name, speaker in self._speakers.items()}
        return {name: credit for name, credit in told.items() if credit}

    def handler(self, name: str) -> TTSErrorHandler:
        """A provider's guard. Raises KeyError."""
        if name not in self._speakers:
            raise KeyError(f"no provider {name!r}: there is {', '.join(self._speakers)}")
        return self._speakers[name].handler

    @property
    def settings(self) -> Settings:
        """How it behaves, with what goes without saying."""
        usual: Settings = {
            "timeouts": self._timeouts,
            "retry": self._retry,
            "muted": True,
            "on_midstream": "resume",
            "voice_substitution": "any",
            "cache": None,
        }
        said = {name: value for name, value in self._settings.items() if value is not None}
        return cast(Settings, {**usual, **said})

    @property
    def providers(self) -> list[Provider]:
        """Who speaks, in order of preference."""
        return [speaker.provider for speaker in self._speakers.values()]

    @property
    def circuits(self) -> dict[str, CircuitBreaker]:
        """Every circuit, by its provider's name."""
        return {name: speaker.handler.circuit for name, speaker in self._speakers.items()}

    @property
    def streams(self) -> list[AsyncSpeechStream]:
        """What is being spoken now."""
        return list(self._live)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event of every circuit; call what is returned to stop."""
        ends = [circuit.subscribe(listener) for circuit in self.circuits.values()]

        def unsubscribe() -> None:
            while ends:
                ends.pop()()

        return unsubscribe

    async def aclose(self) -> None:
        """Let go of connections and child processes.

        What is still being spoken ends with TTSStreamInterruptedError, and counts against nobody.
        """
        for stream in list(self._live):
            await stream._interrupt()
        if self._hedging:
            await self._hedging.aclose()
        for allowance in self._allowances.values():
            await allowance.aclose()
        if self._memory:
            await self._memory.aclose()
        closed = await asyncio.gather(
            *(speaker.provider.aclose() for speaker in self._speakers.values()), return_exceptions=True
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

    def _guarded(self, provider: Provider) -> Speaker:
        own = self._settings.get("circuits", {}).get(provider.name)
        handler = TTSErrorHandler(
            provider.name,
            own or self._settings.get("circuit"),
            self._retry,
            clock=self._clock,
            wall=self._wall,
            rng=self._rng,
            allowance=self._allowance(provider),
        )
        return Speaker(provider, handler)

    def _allowance(self, provider: Provider) -> Allowance:
        """Its credential's own, which providers of the same credential share."""
        credential = provider.credential if isinstance(provider, HasCredential) else None
        key = credential.id if credential else f"only {provider.name}"
        if key not in self._allowances:
            ask = provider.credit if isinstance(provider, TellsCredit) else None
            self._allowances[key] = Allowance(provider.name, credential, ask, clock=self._clock, wall=self._wall)
        elif credential:
            self._allowances[key].turnstile.gate.bound(credential.most)
        return self._allowances[key]

    def _utterance(self, text: str, wishes: Wishes, *, hold: bool) -> Utterance | Recalled:
        check_wishes(wishes)
        terms = Terms(
            timeouts=self._timeouts,
            muted=self._settings.get("muted", True),
            on_midstream=wishes.get("on_midstream", self._settings.get("on_midstream", "resume")),
            voice_substitution=wishes.get("voice_substitution", self._settings.get("voice_substitution", "any")),
            max_attempts=self._retry.max_attempts,
            deadline=check_deadline(wishes.get("deadline")),
            hold=hold,
        )
        request = _request(text, wishes)
        utterance = Utterance(
            request,
            list(self._speakers.values()),
            terms,
            pace=self._pace,
            clock=self._clock,
            wall=self._wall,
            tell_muted=self._tell_muted,
            hedging=self._hedging if wishes.get("hedging", True) else None,
        )
        if self._memory and request.text and wishes.get("cache", True):
            return Recalled(utterance, request, terms, self._memory)
        return utterance

    def _tell_muted(self, muted: bool) -> None:
        self._is_muted = muted


class AsyncSpeechStream(Account):
    """Audio of one utterance as it is made: iterate it, once. The account of it grows meanwhile."""

    def __init__(self, service: AsyncTTSService, text: str, wishes: Wishes, *, hold: bool) -> None:
        utterance = service._utterance(text, wishes, hold=hold)
        self.spoken = utterance.spoken
        self.format = utterance.format
        self._service = service
        self._utterance = utterance
        self._chunks: AsyncGenerator[bytes, None] = utterance.chunks()
        self._task: asyncio.Task[Any] | None = None  # that waits for the next chunk
        self._resting = asyncio.Event()  # nobody does
        self._interruption: TTSStreamInterruptedError | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._interruption:
            raise self._interruption
        self._service._live.add(self)
        self._task = task = asyncio.current_task()
        self._resting.clear()
        before = task.cancelling() if task else 0
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            log_spoken(self.spoken)
            raise
        except asyncio.CancelledError:
            # As asyncio.timeout() does: a cancellation of our own making is taken back and told as what it is.
            if self._interruption and task and task.uncancel() <= before:
                raise self._interruption from None
            raise
        except Exception as error:
            self.spoken.error = error
            log_spoken(self.spoken)
            raise
        finally:
            self._task = None
            self._resting.set()

    async def aclose(self) -> None:
        """Stop speaking. Nothing is counted against the provider."""
        self._service._live.discard(self)
        await self._chunks.aclose()

    async def _interrupt(self) -> None:
        """The service closes: end this, wherever it is, so that nobody takes what was heard for the whole."""
        self._service._live.discard(self)
        if self.spoken.error or self._utterance.finished:
            return
        closed = TTSCancelledError("the service was closed while it spoke")
        self._interruption = TTSStreamInterruptedError([closed], delivered=self._utterance.delivered)
        self.spoken.error = self._interruption
        if self._task is not None:
            self._task.cancel()
            await self._resting.wait()
        await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _request(text: str, wishes: Wishes) -> SpeechRequest:
    form = wishes.get("format", "mp3_44100_128")
    return SpeechRequest(
        text=cleaned(text) if isinstance(text, str) else text,
        format=form if isinstance(form, AudioFormat) else AudioFormat.parse(form),
        voice=wishes.get("voice", "default"),
        model=wishes.get("model"),
        language=wishes.get("language"),
        speed=wishes.get("speed", 1.0),
        seed=wishes.get("seed"),
        previous_text=wishes.get("previous_text"),
        next_text=wishes.get("next_text"),
        options=wishes.get("options", {}),
        foreign_voice=wishes.get("foreign_voice", "refuse"),
        dialect=wishes.get("dialect"),
        times=wishes.get("times", False),
    )
