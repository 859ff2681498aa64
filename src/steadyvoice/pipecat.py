"""Pipecat plugin: a `TTSService` whose replies survive the provider that speaks them.

    from steadyvoice.pipecat import TTSService

    pipeline = Pipeline([..., llm, TTSService(service, voice="agent"), transport.output(), ...])

Each reply is a turn of one conversation. Needs the extra `steadyvoice[pipecat]`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from steadyvoice._extras import require
from steadyvoice.service.conversation.conversation import ConversationOptions
from steadyvoice.service.conversation.events import Audio, Switched, Words
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.errors import TTSConfigurationError, TTSError

require("pipecat", "pipecat", package="Pipecat")

from pipecat.frames.frames import (  # noqa: E402
    AggregatedTextProgressFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup  # noqa: E402
from pipecat.services import tts_service as pipecat  # noqa: E402
from pipecat.services.settings import TTSSettings  # noqa: E402
from pipecat.transcriptions.language import Language  # noqa: E402
from pipecat.utils.errors import ErrorCategory  # noqa: E402

_IDLE = 90.0
"""Seconds without audio after which Pipecat gives up a reply: longer than the service does. Pipecat's own limit of 3
seconds would lose what a second provider says after the first one's timeout."""

_UNSPOKEN = "steadyvoice.unspoken"
"""Key in an error frame's metadata: the audio context whose remaining text was not spoken."""


@dataclass(eq=False, slots=True)
class _Reply:
    """Reply of the bot: an audio context of Pipecat, and the turns that speak it.

    It has one turn, and another one for each failure: text that comes after an outage is spoken.
    """

    turn: AsyncTurn
    reading: asyncio.Task[None] | None = None  # None once the turn has ended
    is_complete: bool = False
    """Whether no further text will come."""
    seconds: float = 0.0
    """Seconds of audio of former turns."""


# Named after the base class of its framework, as `steadyvoice.livekit.TTS` is, so that a pipeline reads as with any
# other plugin. `steadyvoice.TTSService` is the synchronous service; no program needs both, because Pipecat is async.
class TTSService(pipecat.TTSService):
    """Text-to-speech of a pipeline: one conversation of a service, which stays its creator's to close.

    Keyword arguments are those of `conversation()` but `format`, and those of Pipecat's `TTSService`. `timeouts` is
    `TimeoutConfig.conversation()` unless given (None: the service's). All audio is PCM at the pipeline's sample rate,
    or at `sample_rate`. Calls the handlers of "on_switched" with a `Switched` event when the voice changes within a
    reply. An outage is an `ErrorFrame` for each reply that it keeps from being spoken, and never marks this processor
    as unusable. Raises TypeError, TTSConfigurationError and TTSError.

    - `service`: service that speaks; its creator closes it.
    - `arguments`: those of `conversation()`, and those of Pipecat's `TTSService`.
    """

    def __init__(self, service: AsyncTTSService, **arguments: Any) -> None:
        if "format" in arguments:
            raise TTSConfigurationError("format: Pipecat's frames are PCM; leave it out, and set sample_rate")
        names = ConversationOptions.__annotations__
        options = {name: value for name, value in arguments.items() if name in names}
        others = {name: value for name, value in arguments.items() if name not in names}
        self._conversation = service.conversation(**{"timeouts": TimeoutConfig.conversation(), **options})
        self._replies: dict[str, _Reply] = {}
        self._prewarming: asyncio.Task[None] | None = None
        self._discarding: str | None = None  # audio context whose text was not spoken
        defaults = {
            "push_text_frames": False,  # words are pushed at their times
            "push_start_frame": True,
            "append_trailing_space": True,
            "stop_frame_timeout_s": _IDLE,
            "max_consecutive_zero_audio_contexts": 0,  # an outage ends
            "settings": TTSSettings(
                model=options.get("model"),
                voice=options.get("voice", "default"),
                language=options.get("language"),
            ),
        }
        super().__init__(**{**defaults, **others})
        self._register_event_handler("on_switched")

    def can_generate_metrics(self) -> bool:
        """Return whether time to first byte and characters are measured: they are."""
        return True

    @property
    def supports_processing_metrics(self) -> bool:
        """True if a text has been spoken when `run_tts()` returns: it has not, its audio comes later."""
        return False

    def language_to_service_language(self, language: Language) -> str:
        """Return the language as a BCP 47 tag."""
        return str(language.value)

    # ---------------------------------------------------------------- life of the pipeline

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Take over the pipeline's sample rate. Raises TTSUnsupportedFormatError for one that no format has."""
        await super().setup(setup)
        self._conversation.update(format=f"pcm_{self.sample_rate}")

    async def stop(self, frame: EndFrame) -> None:
        """Speak what was pushed, then end the conversation."""
        for context_id in list(self._replies):
            await self._complete(context_id)
        await super().stop(frame)
        await self._conversation.aclose()

    async def cancel(self, frame: CancelFrame) -> None:
        """End the conversation at once."""
        await self._abandon()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Release everything. The service stays open."""
        await super().cleanup()
        await self._abandon()

    async def _abandon(self) -> None:
        for context_id in list(self._replies):
            await self._interrupt(context_id)
        if self._prewarming:
            await self.cancel_task(self._prewarming)
            self._prewarming = None
        await self._conversation.aclose()

    async def _update_settings(self, delta: TTSSettings) -> dict[str, Any]:
        changed: dict[str, Any] = await super()._update_settings(delta)
        for name in changed.keys() & {"voice", "model", "language"}:
            value = getattr(self._settings, name)
            if value is not None or name != "voice":
                self._conversation.update(**{name: value})
        return changed

    # ---------------------------------------------------------------- text

    async def on_turn_context_created(self, context_id: str) -> None:
        """Open the connection to the first provider while the language model thinks."""
        await super().on_turn_context_created(context_id)
        if self._prewarming is None or self._prewarming.done():
            self._prewarming = self.create_task(self._conversation.prewarm(), "prewarm")

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Push a text to the turn of its reply. The audio is appended to the audio context as it comes."""
        reply = self._reply(context_id)
        try:
            reply.turn.push(text)
        except TTSError as error:
            yield self._error_frame(error)
        if self._text_aggregation_mode == pipecat.TextAggregationMode.SENTENCE:
            reply.turn.flush()
        if context_id != self._turn_context_id:  # a text by itself, whose end Pipecat does not tell
            await self._complete(context_id)
        await self.start_tts_usage_metrics(text)
        yield None

    async def flush_audio(self, context_id: str | None = None) -> None:
        """Speak the text so far without waiting for more."""
        reply = self._replies.get(context_id or self.get_active_audio_context_id() or "")
        if reply and reply.reading and not reply.is_complete:
            reply.turn.flush()

    async def on_turn_context_completed(self) -> None:
        """End the text of the reply."""
        context_id = self._turn_context_id
        await super().on_turn_context_completed()
        if context_id:
            await self._complete(context_id)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """Stop the vendor: the listener speaks."""
        await self._interrupt(context_id)
        await super().on_audio_context_interrupted(context_id)

    async def on_audio_context_completed(self, context_id: str) -> None:
        """Stop a reply that Pipecat has given up, because no audio came for a long time."""
        await self._interrupt(context_id)
        await super().on_audio_context_completed(context_id)

    def _reply(self, context_id: str) -> _Reply:
        """Return the reply of an audio context, with a turn that takes text."""
        reply = self._replies.get(context_id)
        if reply is None:
            reply = self._replies[context_id] = _Reply(self._conversation.turn(context_id))
        elif reply.reading is None:
            reply.turn = self._conversation.turn(context_id)
        if reply.reading is None:
            reply.reading = self.create_task(self._read(context_id, reply), "turn")
        return reply

    async def _complete(self, context_id: str) -> None:
        """Note that no further text will come for a reply."""
        if reply := self._replies.get(context_id):
            reply.is_complete = True
            reply.turn.end()
            if reply.reading is None:
                await self._close(context_id)

    async def _interrupt(self, context_id: str) -> None:
        if reply := self._replies.pop(context_id, None):
            if reply.reading:
                await self.cancel_task(reply.reading)
            await reply.turn.interrupt()

    # ---------------------------------------------------------------- audio

    async def _read(self, context_id: str, reply: _Reply) -> None:
        """Append the events of the reply's turn to its audio context, and close that at the end of the text."""
        turn = reply.turn
        try:
            await self._append_events(context_id, turn, reply.seconds)
        except Exception as error:  # of any kind: nothing may leave the reply open, which others wait for
            frame = self._error_frame(error)
            frame.metadata[_UNSPOKEN] = context_id
            await self.append_to_audio_context(context_id, frame)
        reply.seconds += turn.seconds
        reply.reading = None
        if reply.is_complete:
            await self._close(context_id)

    async def _append_events(self, context_id: str, turn: AsyncTurn, offset: float) -> None:
        """Append a turn's events to an audio context, `offset` seconds after its start. Raises TTSError."""
        spoken = 0
        async for event in turn:
            if isinstance(event, Words):
                new = [word for word in event.words if word.end > spoken]  # none of a sentence that is spoken again
                spoken = max(spoken, event.words[-1].end)
                await self.add_word_timestamps([(word.text, offset + word.start) for word in new], context_id)
            elif isinstance(event, Audio):
                frame = TTSAudioRawFrame(event.data, self.sample_rate, 1, context_id=context_id)
                await self.append_to_audio_context(context_id, frame)
            elif isinstance(event, Switched):
                await self._call_event_handler("on_switched", event)

    async def _close(self, context_id: str) -> None:
        """End an audio context, once everything in it has been played."""
        self._replies.pop(context_id, None)
        if self.audio_context_available(context_id):
            await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
            await self.remove_audio_context(context_id)

    async def push_error_frame(self, error: ErrorFrame, **options: Any) -> None:
        """Push an error, and leave the text that was not spoken for it out of the transcript.

        Pipecat adds text that got no times at the end of an audio context, as if it had been spoken.
        """
        if context_id := error.metadata.get(_UNSPOKEN):
            self._discarding = context_id
            await self._apply_force_complete(context_id)
            self._discarding = None
        await super().push_error_frame(error, **options)

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push a frame, unless it states that text was spoken which was not."""
        if not isinstance(frame, TTSTextFrame | AggregatedTextProgressFrame) or frame.context_id != self._discarding:
            await super().push_frame(frame, direction)

    def _error_frame(self, error: Exception) -> ErrorFrame:
        """Return the frame for an error, whose category does not mark this processor as unusable."""
        return ErrorFrame(error=str(error), exception=error, processor=self, category=ErrorCategory.SERVER)
