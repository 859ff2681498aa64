"""LiveKit Agents plugin: a `TTS` whose replies survive the provider that speaks them.

    from steadyvoice.livekit import TTS

    session = AgentSession(tts=TTS(service, voice="agent"), ...)

Each reply is a turn of one conversation. Needs the extra `steadyvoice[livekit]`.
"""

from __future__ import annotations

import asyncio
from typing import Literal, Unpack

from steadyvoice._extras import require
from steadyvoice.service.conversation.conversation import ConversationOptions
from steadyvoice.service.conversation.events import Audio, Switched, Words
from steadyvoice.service.conversation.turn import AsyncTurn
from steadyvoice.service.pipeline.timeouts import TimeoutConfig
from steadyvoice.service.service import AsyncTTSService
from steadyvoice.speech.errors import TTSConfigurationError, TTSError

require("livekit", "livekit.agents", package="LiveKit Agents")

from livekit.agents import (  # noqa: E402
    DEFAULT_API_CONNECT_OPTIONS,
    APIConnectOptions,
    APIError,
    APIStatusError,
    tts,
    utils,
)
from livekit.agents.types import TimedString  # noqa: E402

_CLIENT_CLOSED_REQUEST = 499
"""Status with which LiveKit ends a stream without audio quietly, neither retrying nor reporting an error."""


class TTS(tts.TTS[Literal["switched"]]):
    """Text-to-speech of an `AgentSession`: one conversation of a service, which stays its creator's to close.

    All audio is PCM at `sample_rate`, whoever speaks. Other keyword arguments are those of `conversation()`; `timeouts`
    is `TimeoutConfig.conversation()` unless given (None: the service's). Emits "switched" with a `Switched` event when
    the voice changes within a reply. Raises TypeError, TTSConfigurationError and TTSError.

    - `sample_rate`: samples of the audio per second, in Hz.
    - `service`: service that speaks; its creator closes it.
    - `text`: the finished text.
    - `conn_options`: ignored: retries and timeouts are the service's.
    """

    def __init__(
        self, service: AsyncTTSService, *, sample_rate: int = 24000, **options: Unpack[ConversationOptions]
    ) -> None:
        capabilities = tts.TTSCapabilities(streaming=True, aligned_transcript=True)
        super().__init__(capabilities=capabilities, sample_rate=sample_rate, num_channels=1)
        _refuse_format(options)
        chosen: ConversationOptions = {"timeouts": TimeoutConfig.conversation(), **options}
        chosen["format"] = f"pcm_{sample_rate}"
        self._service = service
        self._conversation = service.conversation(**chosen)
        self._prewarming: asyncio.Task[None] | None = None

    @property
    def provider(self) -> str:
        """Name for LiveKit's metrics."""
        return "steadyvoice"

    @property
    def model(self) -> str:
        """Names of the providers in order of preference, for LiveKit's metrics."""
        return ", ".join(each.name for each in self._service.providers)

    def update_options(self, **options: Unpack[ConversationOptions]) -> None:
        """Change options from the next reply on; others stay. Raises TypeError, TTSConfigurationError and TTSError."""
        _refuse_format(options)
        self._conversation.update(**options)

    def prewarm(self) -> None:
        """Open the connection to the first provider, where it keeps one."""
        if self._prewarming is None or self._prewarming.done():
            self._prewarming = asyncio.create_task(self._conversation.prewarm())

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Return a stream of the audio of a finished text. Retries and timeouts are the service's own."""
        return _ChunkedStream(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        """Return a stream that speaks text while it is pushed. Retries and timeouts are the service's own."""
        return _SynthesizeStream(tts=self, conn_options=conn_options)

    async def aclose(self) -> None:
        """End all replies. The service stays open."""
        if self._prewarming:
            await utils.aio.cancel_and_wait(self._prewarming)
        await self._conversation.aclose()

    def _turn(self, emitter: tts.AudioEmitter, *, streaming: bool) -> AsyncTurn:
        """Open a turn, and announce its audio to LiveKit."""
        turn = self._conversation.turn()
        emitter.initialize(
            request_id=turn.id, sample_rate=self.sample_rate, num_channels=1, mime_type="audio/pcm", stream=streaming
        )
        if streaming:
            emitter.start_segment(segment_id=turn.id)
        return turn

    async def _speak(self, turn: AsyncTurn, emitter: tts.AudioEmitter) -> None:
        """Emit a turn, each word before the audio that holds it. Raises TTSError, and APIStatusError without audio."""
        transcribed = 0
        async for event in turn:
            if isinstance(event, Words):
                for word in event.words:
                    if word.end > transcribed:  # a sentence that is spoken again is not written again
                        text = turn.text[transcribed : word.end]
                        emitter.push_timed_transcript(TimedString(text, start_time=word.start, end_time=word.stop))
                        transcribed = word.end
            elif isinstance(event, Audio):
                emitter.push(event.data)
            elif isinstance(event, Switched):
                self.emit("switched", event)
        if turn.outcome == "interrupted" or not turn.seconds:
            raise APIStatusError("nothing to speak, or closed", status_code=_CLIENT_CLOSED_REQUEST)


class _ReportsPassingOutages:
    """Mixin for LiveKit's streams: reports a failed reply without the session being given up for it.

    An `AgentSession` closes after the fourth unrecoverable error in a row. Here every error passes: the next reply is
    spoken by any provider that is back.
    """

    def _emit_error(self, api_error: Exception, recoverable: bool) -> None:
        super()._emit_error(api_error, recoverable=True)  # type: ignore[misc]


class _ChunkedStream(_ReportsPassingOutages, tts.ChunkedStream):
    """Stream of the audio of a finished text."""

    _tts: TTS

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        async with self._tts._turn(output_emitter, streaming=False) as turn:
            try:
                turn.push(self.input_text)
                turn.end()
                await self._tts._speak(turn, output_emitter)
            except TTSError as error:
                raise _api_error(error) from error


class _SynthesizeStream(_ReportsPassingOutages, tts.SynthesizeStream):
    """Stream of the audio of a text that is still being written."""

    _tts: TTS

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        async with self._tts._turn(output_emitter, streaming=True) as turn:
            feeding = asyncio.create_task(self._feed(turn))
            try:
                await self._tts._speak(turn, output_emitter)
                await feeding
            except TTSError as error:
                raise _api_error(error) from error
            finally:
                await utils.aio.cancel_and_wait(feeding)
        output_emitter.end_segment()

    async def _feed(self, turn: AsyncTurn) -> None:
        """Push LiveKit's text to a turn. Raises TTSTextTooLongError; the text before that is still spoken."""
        try:
            async for piece in self._input_ch:
                if isinstance(piece, self._FlushSentinel):
                    turn.flush()
                else:
                    self._mark_started()
                    turn.push(piece)
        finally:
            turn.end()


def _refuse_format(options: ConversationOptions) -> None:
    if "format" in options:
        raise TTSConfigurationError("format: LiveKit's frames are PCM; leave it out, and set sample_rate")


def _api_error(error: TTSError) -> APIError:
    """Return the error for LiveKit, which need not try again: the service has."""
    return APIError(str(error), retryable=False)
