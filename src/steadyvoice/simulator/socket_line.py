"""What a websocket's client gets: messages, or what a fault makes of them.

The websockets' `misbehave` and `line` in one: here a fault can only act between messages, while they are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiohttp import WSCloseCode, web

from steadyvoice.simulator import acts
from steadyvoice.simulator.acts import Act
from steadyvoice.simulator.ledger import Ending, Entry, Ledger
from steadyvoice.simulator.line import hang_up, reset, wait
from steadyvoice.wire.elevenlabs.errors import CODES
from steadyvoice.wire.elevenlabs.websocket import (
    POLICY_VIOLATION,
    AudioMessage,
    ErrorMessage,
    FieldSpelling,
    FinalMessage,
    encode_message,
)

_LONGEST_REASON = 123  # bytes in a close frame, RFC 6455


class HungUp(Exception):
    """Raised when the conversation is over; says how it ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class SocketLine:
    """Sends messages to one client, with `act` in them."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, act: Act | None, entry: Entry, ledger: Ledger
    ) -> None:
        self._request = request
        self._socket = socket
        self._act = act
        self._entry = entry
        self._ledger = ledger
        self._heard = 0.0
        self._begun = False
        self._spelling = FieldSpelling(act.style) if isinstance(act, acts.OtherSpelling) else FieldSpelling.USUAL

    async def sound(self, sound: AudioMessage, seconds: float) -> None:
        """Send some audio, `seconds` long. Raises HungUp when the fault is that it ends here."""
        await self._begin()
        if self._due(self._heard + seconds):
            if not self._heard:
                half = len(sound.audio) // 2
                await self._write(replace(sound, audio=sound.audio[:half], alignment=None, normalized=None))
            await self._befall(sound)
        self._heard += seconds
        for part in self._split(sound):
            await self._write(part)

    async def final(self, final: FinalMessage) -> None:
        """Tell the end of a text. Raises HungUp when the fault is that it is never told."""
        await self._begin()
        if self._due(float("inf")):
            await self._befall(final)
        await self._write(final)

    async def close(self, ending: Ending, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Close properly. The ledger knows first: a client may be gone by the time this returns."""
        self._ledger.end(self._entry, ending)
        told = reason.encode()[:_LONGEST_REASON].decode("utf-8", "ignore").encode()
        await self._socket.close(code=code, message=told)

    async def trouble(self, ending: Ending, trouble: ErrorMessage) -> None:
        """Say what is wrong, and close."""
        await self._write(trouble)
        await self.close(ending, trouble.code, trouble.message)

    async def _begin(self) -> None:
        """Wait before the first message, if that is the fault."""
        begun, self._begun = self._begun, True
        match self._act:
            case acts.HangAfterHeaders():
                await wait(None)
            case acts.SlowFirstByte(seconds) if not begun:
                await wait(seconds)

    def _due(self, heard: float) -> bool:
        """Whether the fault's moment is this side of that second of audio."""
        match self._act:
            case (
                acts.Stall(after) | acts.Cut(after) | acts.CutTerminated(after) | acts.Restart(after)
                | acts.HalfLine(after) | acts.ErrorLine(after=after)
            ):  # fmt: skip
                return heard > after
            case acts.Reset(after):
                return heard > (after or 0.0)
        return False

    async def _befall(self, message: AudioMessage | FinalMessage) -> None:
        """Do what the fault is, where `message` belongs."""
        match self._act:
            case acts.Stall(_, seconds):
                self._act = None  # once is enough
                await wait(seconds)
                return
            case acts.Cut():
                hang_up(self._request)
            case acts.Reset():
                reset(self._request)
            case acts.CutTerminated():
                await self.close(Ending.CUT)
            case acts.Restart():
                await self.close(Ending.CUT, WSCloseCode.SERVICE_RESTART, "service restart")
            case acts.HalfLine():
                text = encode_message(message, self._spelling)
                await self._send(text[: len(text) // 2])
                await self.close(Ending.CUT)
            case acts.ErrorLine(code):
                internal = code in CODES and CODES[code].status >= 500
                close_code = WSCloseCode.INTERNAL_ERROR if internal else POLICY_VIOLATION
                await self.trouble(
                    Ending.CUT, ErrorMessage(code, f"The simulator was told to end with this: {code}.", close_code)
                )
        raise HungUp(Ending.CUT)

    def _split(self, sound: AudioMessage) -> Iterator[AudioMessage]:
        if not isinstance(self._act, acts.OddSplits):
            yield sound
            return
        size = self._act.bytes
        yield replace(sound, audio=sound.audio[:size])
        for at in range(size, len(sound.audio), size):
            yield AudioMessage(sound.audio[at : at + size], context_id=sound.context_id)

    async def _write(self, message: AudioMessage | FinalMessage | ErrorMessage) -> None:
        text = encode_message(message, self._spelling)
        if isinstance(self._act, acts.BigFrame) and isinstance(message, AudioMessage):
            text, self._act = text.ljust(self._act.bytes), None
        await self._send(text)

    async def _send(self, text: str) -> None:
        await self._socket.send_str(text)
        self._ledger.sent(self._entry, len(text.encode()), self._heard)
