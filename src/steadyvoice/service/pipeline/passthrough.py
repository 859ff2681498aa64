"""A call whose bytes go out as they come in: nothing of them is read but what tells that they are audio."""

from __future__ import annotations

from collections.abc import Callable

from steadyvoice.breaker import Permit
from steadyvoice.providers.base import AudioResponse, PreparedRequest, Provider, SupportsPrepare, SynthesisOffer
from steadyvoice.service.pipeline.delivery import DeliveredSpeech, Delivery
from steadyvoice.service.pipeline.output import Output
from steadyvoice.service.pipeline.provider_call import AudioSink, ProviderCall
from steadyvoice.speech.alignment import EstimatedAlignment
from steadyvoice.speech.duration_estimate import is_pronounceable
from steadyvoice.speech.errors import TTSCutError, TTSEmptyAudioError, TTSRequestError
from steadyvoice.speech.format import Codec
from steadyvoice.speech.request import SpeechRequest


def prepare_passthrough(provider: Provider, request: SpeechRequest, offer: SynthesisOffer) -> PreparedRequest | None:
    """Make ready what a provider is asked, if its answer is the very bytes that the caller wants; else None."""
    # These have to be read: their headers may lie about their length and their samples.
    as_asked = offer.format == request.format and offer.gain == 1.0 and offer.speed is None
    as_asked = as_asked and request.format.codec not in (Codec.WAV, Codec.FLAC)
    if not (as_asked and offer.for_any_text and isinstance(provider, SupportsPrepare)):
        return None
    try:
        return provider.prepare(request, offer)
    except TTSRequestError:  # whoever asks in earnest will hear of it
        return None


class PassthroughCall(ProviderCall):
    """The same clocks and the same doubts, and fewer steps from the socket to the listener."""

    ready: PreparedRequest
    _reply: AudioResponse | None = None
    _hung_up = False
    _outlet: AudioSink | None = None

    def _begin(self) -> None:
        """Nothing is asked before somebody wants to hear."""

    async def _hang_up(self) -> None:
        if self._reply and not self._hung_up:
            self._hung_up = True
            self._reply.close()

    async def _more(self, outlet: AudioSink | None) -> bytes | None:
        reply = self._reply
        if reply is None:
            asked = self.ready.send(self.request.text, connection_timeout=self._connecting)
            self._reply = reply = await self._in_time(asked)
            if reply is None:
                return None
            self._accept(reply.accepted)
        try:
            data = reply.read_nowait()
        except TTSCutError as error:
            raise self._cut(error) from error.__cause__
        except TTSEmptyAudioError:
            if is_pronounceable(self.request.text):
                raise
            return None
        if data is None:
            self._outlet = outlet if self.first_sound is not None else None
            if self._outlet:
                data = await self._in_time(reply.read(self._pour))
            else:
                data = await self._in_time(reply.read())
        return data or None

    def _pour(self, data: bytes) -> bool:
        """What is believed goes out at once, and nobody is woken for it. Raises TTSError, to whoever waits."""
        outlet, hearing = self._outlet, self._hearing
        if outlet is None or self._alarm.expired or not outlet.open():
            return False
        now = self._spend()
        before = hearing.seconds
        hearing.take(data)
        self._clocks.gain(hearing.seconds - before, begun=True)
        outlet.write(data)
        self._moved = True
        self._check(now)
        return True


class PassthroughSink:
    """To an outlet, with a word to everybody who keeps an eye on what goes there."""

    __slots__ = ("_alive", "_passed", "_write", "open")

    def __init__(self, outlet: AudioSink, output: Output, permit: Permit) -> None:
        self.open, self._write = outlet.open, outlet.write
        self._passed, self._alive = output.passed, permit.progress

    def write(self, data: bytes) -> None:
        """Send this on."""
        self._passed(data)
        self._write(data)
        self._alive()


class PassthroughDelivery(Delivery):
    """Hands out what comes. Only when something goes wrong it looks for what was said until then."""

    def begin(self) -> None:
        """There is nothing to make ready."""

    async def take(self, data: bytes) -> bytes:
        """Take what came, and give it."""
        self._output.passed(data)
        if not self.heard:
            self._note_heard(data)
        return data

    async def end(self, believed: Callable[[], None]) -> None:
        """Judge the length of the whole, and end. Raises TTSError."""
        self._check_length()
        believed()
        self.rest = self._output.end()

    @property
    def said(self) -> DeliveredSpeech:
        """All of it."""
        text, seconds = self._call.request.text, self._call.seconds
        return DeliveredSpeech(len(text), seconds, EstimatedAlignment(text, seconds))
