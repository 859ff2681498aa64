"""A call whose bytes go out as they come in: nothing of them is read but what tells that they are audio."""

from __future__ import annotations

from steadyvoice.providers.provider import Answering, MakesReady, Offer, Provider, Ready
from steadyvoice.service.attempt import Call
from steadyvoice.service.delivery import Delivery, Said
from steadyvoice.speech.alignment import Guess
from steadyvoice.speech.errors import TTSCutError, TTSRequestError
from steadyvoice.speech.request import SpeechRequest


def ready_for(provider: Provider, request: SpeechRequest, offer: Offer) -> Ready | None:
    """Make ready what a provider is asked, if its answer is the very bytes that the caller wants; else None."""
    as_asked = offer.format == request.format and offer.gain == 1.0 and offer.speed is None
    if not (as_asked and offer.for_any_text and isinstance(provider, MakesReady)):
        return None
    try:
        return provider.ready(request, offer)
    except TTSRequestError:  # whoever asks in earnest will hear of it
        return None


class PassingCall(Call):
    """The same clocks and the same doubts, and fewer steps from the socket to the listener."""

    ready: Ready
    _reply: Answering | None = None
    _hung_up = False

    def _begin(self) -> None:
        """Nothing is asked before somebody wants to hear."""

    async def _hang_up(self) -> None:
        if self._reply and not self._hung_up:
            self._hung_up = True
            self._reply.close()

    async def _more(self) -> bytes | None:
        reply = self._reply
        if reply is None:
            asked = self.ready.ask(self.request.text, connection_timeout=self._connecting)
            self._reply = reply = await self._in_time(asked)
            self._accept(reply.accepted)
        try:
            data = reply.take()
        except TTSCutError as error:
            raise self._cut(error) from error.__cause__
        return (await self._in_time(reply.read()) if data is None else data) or None


class PassingDelivery(Delivery):
    """Hands out what comes. Only when something goes wrong it looks for what was said until then."""

    def begin(self) -> None:
        """There is nothing to make ready."""

    async def take(self, data: bytes) -> bytes:
        """Take what came, and give it."""
        self._output.passed(data)
        if not self.heard:
            self._note_heard(data)
        return data

    async def end(self) -> None:
        """All has come, and was believed."""
        self.rest = self._output.end()

    @property
    def said(self) -> Said:
        """All of it."""
        text, seconds = self._call.request.text, self._call.seconds
        return Said(len(text), seconds, Guess(text, seconds))
