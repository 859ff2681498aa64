"""Conversation: a listener's session, whose turns share voice, options, connections and the memory of failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack, cast
from uuid import uuid4

from steadyvoice._option_rules import COUNT, FLAG
from steadyvoice.providers.base import SupportsTextStreaming
from steadyvoice.service.conversation.failure_memory import ProviderMemory
from steadyvoice.service.conversation.ledger import MAX_TEXT_CHARACTERS, TurnLedger
from steadyvoice.service.conversation.segment_speaker import SegmentSpeaker, TurnResources
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.service.options import ResolvedOptions, SynthesisOptions, UtterancePolicy
from steadyvoice.service.pipeline.text_splitting import MAX_SENTENCE
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.result import UtteranceReport
from steadyvoice.speech.errors import TTSConfigurationError, TTSError
from steadyvoice.speech.option_validation import validate_option

DEFAULT_FORMAT = "pcm_24000"
"""Format of a conversation's audio unless another one is named: what voice agents play."""


_OWN_OPTIONS = ("timeouts", "muted", "max_text_characters", "hold_back")


class ConversationOptions(SynthesisOptions, total=False):
    """Keyword arguments of `conversation()`: those of `synthesize()`, and some of its own."""

    timeouts: TimeoutConfig | None  # for this conversation; the service's if None
    muted: bool  # True: silence when no provider can speak; False, the default: an error, whatever the service does
    max_text_characters: int  # characters of one turn; 100,000 if absent
    hold_back: bool  # True: a sentence without timestamps is heard once it is complete, and no word is ever repeated


class ConversationServices:
    """Functions of a service that its conversations need. `policy` takes the options and timeouts of a conversation."""

    __slots__ = ("on_turn_end", "on_turn_start", "policy", "resources")

    def __init__(
        self,
        resources: Callable[[TimeoutConfig | None], TurnResources],
        policy: Callable[[ResolvedOptions, TimeoutConfig | None, bool], UtterancePolicy],
        on_turn_start: Callable[[AsyncTurn], None],
        on_turn_end: Callable[[AsyncTurn], None],
    ) -> None:
        self.resources, self.policy = resources, policy
        self.on_turn_start, self.on_turn_end = on_turn_start, on_turn_end


class AsyncConversation:
    """Session of one listener: opens turns, and closes them with `aclose()`. All of it belongs to one event loop.

    Keyword arguments: see `ConversationOptions`. Raises TypeError, TTSConfigurationError and TTSError for bad ones.

    - `id`: name of the turn in events and logs; made up if None.
    """

    def __init__(
        self, services: ConversationServices, clock: Callable[[], float], options: ConversationOptions, *, paced: bool
    ) -> None:
        self._services, self._paced = services, paced
        self._memory = ProviderMemory(clock)
        self._turns: dict[AsyncTurn, None] = {}
        self._closed = False
        self._options: ConversationOptions = {}
        self._apply(options)

    def turn(self, id: str | None = None) -> AsyncTurn:
        """Open a turn; nothing is sent before text is pushed to it. Several may be open. Raises RuntimeError when the
        conversation is closed.
        """
        if self._closed:
            raise RuntimeError("turn(): the conversation is closed")
        options, services = self._resolved, self._services
        policy = replace(services.policy(options, self._timeouts, self._muted), hold_back=self._holds_back)
        request = options.request
        ledger = TurnLedger(self._max_characters)
        speaker = SegmentSpeaker(
            ledger,
            request,
            policy,
            self._memory,
            services.resources(self._timeouts),
            UtteranceReport(None),
            hedging=options.hedging,
        )
        turn = AsyncTurn(
            id or uuid4().hex,
            ledger,
            speaker,
            request.format,
            paced=self._paced,
            max_segment=MAX_SENTENCE,
            on_end=self._forget,
        )
        self._turns[turn] = None
        services.on_turn_start(turn)
        return turn

    @property
    def turns(self) -> list[AsyncTurn]:
        """Turns that have not ended."""
        return list(self._turns)

    async def prewarm(self) -> None:
        """Open the connection to the first provider before there is text, where it keeps one. Raises nothing."""
        request = replace(self._resolved.request, timestamps=True)
        with suppress(TTSError):
            for guarded in self._services.resources(self._timeouts).providers()[:1]:
                if isinstance(guarded.provider, SupportsTextStreaming) and not guarded.handler.refuses():
                    timeout = guarded.timeouts.connection_timeout
                    offer = guarded.provider.offer(request)
                    await guarded.provider.prewarm(request, offer, connection_timeout=timeout)

    def update(self, **options: Unpack[ConversationOptions]) -> None:
        """Change options from the next turn on; others stay. Raises TypeError, TTSConfigurationError and TTSError."""
        self._apply(cast(ConversationOptions, {**self._options, **options}))

    async def aclose(self) -> None:
        """End the turns that are open, with the outcome `interrupted`."""
        self._closed = True
        if turns := list(self._turns):
            await asyncio.gather(*(turn.aclose() for turn in turns))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _apply(self, options: ConversationOptions) -> None:
        """Check options and put them into force: all or none."""
        given: dict[str, Any] = dict(options)
        timeouts, muted, most, holds_back = (given.pop(name, None) for name in _OWN_OPTIONS)
        _check_own_options(timeouts, muted, most, holds_back, given)
        resolved = ResolvedOptions.resolve(cast(SynthesisOptions, {"format": DEFAULT_FORMAT, **given}))
        self._options, self._resolved = options, resolved
        self._timeouts, self._muted, self._max_characters = timeouts, bool(muted), most or MAX_TEXT_CHARACTERS
        self._holds_back = bool(holds_back)

    def _forget(self, turn: AsyncTurn) -> None:
        self._turns.pop(turn, None)
        self._services.on_turn_end(turn)


def _check_own_options(
    timeouts: object, muted: object, most: object, holds_back: object, others: Mapping[str, Any]
) -> None:
    if timeouts is not None and not isinstance(timeouts, TimeoutConfig):
        raise TTSConfigurationError(f"timeouts: must be a TimeoutConfig, got {timeouts!r}")
    if muted is not None:
        validate_option("muted", muted, FLAG)
    if holds_back is not None:
        validate_option("hold_back", holds_back, FLAG)
    if most is not None:
        validate_option("max_text_characters", most, COUNT)
    if others.get("on_midstream", "resume") != "resume":
        raise TTSConfigurationError("on_midstream: a turn is always resumed; leave it out, or set it to 'resume'")
    if others.get("cache"):
        raise TTSConfigurationError("cache: turns are not cached; leave it out")
