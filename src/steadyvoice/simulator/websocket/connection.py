"""Messages to a websocket's client, with faults applied.

Counterpart of `fault_injection.responses` and of the response writer: at a websocket a fault can only act between
messages, while they are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aiohttp import WSCloseCode, web

from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import FaultAction
from steadyvoice.simulator.http.response import close_connection, reset_connection, sleep_or_hang
from steadyvoice.simulator.ledger import Ending, LedgerEntry, RequestLedger
from steadyvoice.wire.elevenlabs.errors import CODES
from steadyvoice.wire.elevenlabs.websocket import (
    POLICY_VIOLATION,
    AudioMessage,
    ErrorMessage,
    FieldSpelling,
    FinalMessage,
    encode_message,
)

_MAX_CLOSE_REASON = 123  # bytes in a close frame, RFC 6455


class SessionEnded(Exception):
    """Raised when the conversation is over; says how it ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class WebSocketConnection:
    """Sends messages to one client, with `act` in them."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        action: FaultAction | None,
        entry: LedgerEntry,
        ledger: RequestLedger,
    ) -> None:
        self._request = request
        self._socket = socket
        self._action = action
        self._entry = entry
        self._ledger = ledger
        self._heard = 0.0
        self._begun = False
        self._spelling = (
            FieldSpelling(action.style) if isinstance(action, actions.OtherSpelling) else FieldSpelling.USUAL
        )

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
        told = reason.encode()[:_MAX_CLOSE_REASON].decode("utf-8", "ignore").encode()
        await self._socket.close(code=code, message=told)

    async def trouble(self, ending: Ending, trouble: ErrorMessage) -> None:
        """Say what is wrong, and close."""
        await self._write(trouble)
        await self.close(ending, trouble.code, trouble.message)

    async def _begin(self) -> None:
        """Wait before the first message, if that is the fault."""
        begun, self._begun = self._begun, True
        match self._action:
            case actions.HangAfterHeaders():
                await sleep_or_hang(None)
            case actions.SlowFirstByte(seconds) if not begun:
                await sleep_or_hang(seconds)

    def _due(self, heard: float) -> bool:
        """Whether the fault's moment is this side of that second of audio."""
        match self._action:
            case (
                actions.Stall(after) | actions.Cut(after) | actions.CutTerminated(after) | actions.Restart(after)
                | actions.HalfLine(after) | actions.ErrorLine(after=after)
            ):  # fmt: skip
                return heard > after
            case actions.Reset(after):
                return heard > (after or 0.0)
        return False

    async def _befall(self, message: AudioMessage | FinalMessage) -> None:
        """Do what the fault is, where `message` belongs."""
        match self._action:
            case actions.Stall(_, seconds):
                self._action = None  # once is enough
                await sleep_or_hang(seconds)
                return
            case actions.Cut():
                close_connection(self._request)
            case actions.Reset():
                reset_connection(self._request)
            case actions.CutTerminated():
                await self.close(Ending.CUT)
            case actions.Restart():
                await self.close(Ending.CUT, WSCloseCode.SERVICE_RESTART, "service restart")
            case actions.HalfLine():
                text = encode_message(message, self._spelling)
                await self._send(text[: len(text) // 2])
                await self.close(Ending.CUT)
            case actions.ErrorLine(code):
                internal = code in CODES and CODES[code].status >= 500
                close_code = WSCloseCode.INTERNAL_ERROR if internal else POLICY_VIOLATION
                await self.trouble(
                    Ending.CUT, ErrorMessage(code, f"The simulator was told to end with this: {code}.", close_code)
                )
        raise SessionEnded(Ending.CUT)

    def _split(self, sound: AudioMessage) -> Iterator[AudioMessage]:
        if not isinstance(self._action, actions.OddSplits):
            yield sound
            return
        size = self._action.bytes
        yield replace(sound, audio=sound.audio[:size])
        for at in range(size, len(sound.audio), size):
            yield AudioMessage(sound.audio[at : at + size], context_id=sound.context_id)

    async def _write(self, message: AudioMessage | FinalMessage | ErrorMessage) -> None:
        text = encode_message(message, self._spelling)
        if isinstance(self._action, actions.BigFrame) and isinstance(message, AudioMessage):
            text, self._action = text.ljust(self._action.bytes), None
        await self._send(text)

    async def _send(self, text: str) -> None:
        await self._socket.send_str(text)
        self._ledger.sent(self._entry, len(text.encode()), self._heard)
