"""Messages to a websocket's client, with faults applied.

Counterpart of `http.fault_responses` and of the response writer: at a websocket a fault can only act between
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
    """Raised when a fault ends the session; `ending` says how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class WebSocketConnection:
    """Connection to one client: sends messages, with a fault action applied."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        action: FaultAction | None,
        entry: LedgerEntry,
        ledger: RequestLedger,
        spelling: FieldSpelling = FieldSpelling.USUAL,
    ) -> None:
        self._request = request
        self._socket = socket
        self._action = action
        self._entry = entry
        self._ledger = ledger
        self._audio_end = 0.0
        self._started = False
        self._spelling = FieldSpelling(action.style) if isinstance(action, actions.OtherSpelling) else spelling

    async def sound(self, sound: AudioMessage, seconds: float) -> None:
        """Send audio that lasts `seconds`. Raises SessionEnded when the fault ends the session here."""
        await self._delay_first()
        if self._due(self._audio_end + seconds):
            if not self._audio_end:
                half = len(sound.audio) // 2
                await self._write(replace(sound, audio=sound.audio[:half], alignment=None, normalized=None))
                sound = replace(sound, audio=sound.audio[half:])
            await self._apply_fault(sound)
        self._audio_end += seconds
        for part in self._split(sound):
            await self._write(part)
            if isinstance(self._action, actions.Drip):
                await sleep_or_hang(self._action.every)

    async def final(self, final: FinalMessage) -> None:
        """Send the end of a text. Raises SessionEnded when the fault ends the session before it."""
        await self._delay_first()
        if self._due(float("inf")):
            await self._apply_fault(final)
        await self._write(final)

    async def close(self, ending: Ending, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Close with a close frame."""
        # The ledger comes first, because the client may be gone, and this task cancelled, before the close returns.
        self._ledger.end(self._entry, ending)
        truncated = reason.encode()[:_MAX_CLOSE_REASON].decode("utf-8", "ignore").encode()
        await self._socket.close(code=code, message=truncated)

    async def send_error(self, ending: Ending, error: ErrorMessage) -> None:
        """Send an error message, and close."""
        await self._write(error)
        await self.close(ending, error.code, error.message)

    async def _delay_first(self) -> None:
        """Delay the first message, if the fault asks for that."""
        started, self._started = self._started, True
        match self._action:
            case actions.HangAfterHeaders():
                await sleep_or_hang(None)
            case actions.SlowFirstByte(seconds) if not started:
                await sleep_or_hang(seconds)

    def _due(self, audio_end: float) -> bool:
        """Return whether the fault happens before this second of audio."""
        match self._action:
            case (
                actions.Stall(after) | actions.Cut(after) | actions.CutTerminated(after) | actions.Restart(after)
                | actions.HalfLine(after) | actions.ErrorLine(after=after) | actions.Close(after=after)
            ):  # fmt: skip
                return audio_end > after
            case actions.Reset(after):
                return audio_end > (after or 0.0)
        return False

    async def _apply_fault(self, message: AudioMessage | FinalMessage) -> None:
        """Apply the fault in place of `message`."""
        match self._action:
            case actions.Stall(_, seconds):
                self._action = None  # it happens once
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
            case actions.Close(code, _, reason):
                await self.close(Ending.CUT, code, reason)
            case actions.HalfLine():
                text = self.encode(message)[0]
                await self._send(text[: len(text) // 2])
                await self.close(Ending.CUT)
            case actions.ErrorLine(code):
                internal = code in CODES and CODES[code].status >= 500
                close_code = WSCloseCode.INTERNAL_ERROR if internal else POLICY_VIOLATION
                await self.send_error(
                    Ending.CUT,
                    ErrorMessage(code, f"The simulator ends the session with this error: {code}.", close_code),
                )
        raise SessionEnded(Ending.CUT)

    def _split(self, sound: AudioMessage) -> Iterator[AudioMessage]:
        if not isinstance(self._action, actions.OddSplits | actions.Drip):
            yield sound
            return
        size = self._action.bytes
        yield replace(sound, audio=sound.audio[:size])
        for at in range(size, len(sound.audio), size):
            yield AudioMessage(sound.audio[at : at + size], context_id=sound.context_id)

    async def _write(self, message: AudioMessage | FinalMessage | ErrorMessage) -> None:
        for text in self.encode(message):
            if isinstance(self._action, actions.BigFrame) and isinstance(message, AudioMessage):
                text, self._action = text.ljust(self._action.bytes), None
            await self._send(text)

    def encode(self, message: AudioMessage | FinalMessage | ErrorMessage) -> list[str]:
        """Return the vendor's messages for one of these."""
        return [encode_message(message, self._spelling)]

    async def _send(self, text: str) -> None:
        await self._socket.send_str(text)
        self._ledger.sent(self._entry, len(text.encode()), self._audio_end)
