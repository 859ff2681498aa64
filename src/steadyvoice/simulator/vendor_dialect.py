"""Common base of the simulator's further vendors: routes, keys, and refusals in the vendor's own codes.

ElevenLabs and OpenAI have dialects of their own, because the gateway speaks both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aiohttp import web

from steadyvoice.simulator.http.response import (
    Rejection,
    RequestRejectedError,
    SimulatedResponse,
    json_response,
    retry_after_value,
)
from steadyvoice.simulator.script import SimulatorSettings
from steadyvoice.simulator.synthesis import SynthesisOrder
from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError
from steadyvoice.wire.elevenlabs.errors import CODES as ELEVENLABS_CODES
from steadyvoice.wire.error_response import error_class_by_status
from steadyvoice.wire.openai.errors import CODES as OPENAI_CODES


@dataclass(frozen=True, slots=True)
class SpeechRoute:
    """Route of a vendor's speech endpoint. `parse` raises RequestRejectedError for what the vendor would refuse."""

    path: str
    endpoint: str  # in faults and the ledger
    parse: Callable[[web.Request, bytes], SynthesisOrder]
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class DocumentRoute:
    """Route of a vendor's free JSON document, such as its list of voices."""

    path: str
    endpoint: str
    document: Callable[[web.Request], Any]


@dataclass(frozen=True, slots=True)
class VendorCode:
    """Status and code with which a vendor refuses."""

    status: int
    code: str | None = None


class VendorDialect(ABC):
    """Dialect of one vendor.

    `codes` are its refusals by the class of error that they mean. The class of a fault's code is that of ElevenLabs' or
    OpenAI's; one that the vendor has no code for is refused with the status that such errors usually have.
    """

    codes: ClassVar[Mapping[type[TTSError], VendorCode]]

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings

    @abstractmethod
    def speech_routes(self) -> Sequence[SpeechRoute]:
        """Return the speech endpoints."""

    def document_routes(self) -> Sequence[DocumentRoute]:
        """Return the free documents."""
        return ()

    @abstractmethod
    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key that a request carries, None without one."""

    @abstractmethod
    def headers(self, request_id: str, order: SynthesisOrder | None = None) -> dict[str, str]:
        """Return the headers of a response, to a request for speech with its `order`."""

    @abstractmethod
    def error_document(self, refusal: VendorCode, message: str, request_id: str) -> Any:
        """Return the JSON body of a refusal."""

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Check the API key. Any key is valid unless the settings name the valid ones. Raises RequestRejectedError."""
        key = self.key_of(headers)
        if not key or (self.settings.keys and key not in self.settings.keys):
            raise RequestRejectedError(Rejection("invalid_api_key", "Invalid credentials."))

    def error_response(self, rejection: Rejection, request_id: str) -> SimulatedResponse:
        """Return a rejection in the vendor's form."""
        refusal = self.refusal(rejection)
        message = rejection.message or f"The simulator rejects this request: {refusal.code or refusal.status}."
        headers = self.headers(request_id)
        if rejection.retry_after is not None:
            headers["retry-after"] = retry_after_value(rejection.retry_after)
        document = self.error_document(refusal, message, request_id)
        return json_response(document, status=refusal.status, headers=headers)

    def not_found(self, method: str, path: str, allowed: Collection[str], request_id: str) -> SimulatedResponse:
        """Return the error for an unknown path, or for a method that is not allowed there."""
        refusal = VendorCode(405 if allowed else 404)
        document = self.error_document(refusal, f"{method} {path} is not an endpoint", request_id)
        return json_response(document, status=refusal.status, headers=self.headers(request_id))

    def error_line(self, code: str) -> bytes:
        """Return an error in the middle of a body; vendors that send plain audio have none."""
        return b""

    def refusal(self, rejection: Rejection) -> VendorCode:
        """Return the status and code of a rejection."""
        kind = _error_class(rejection)
        known = self.codes.get(kind) or self.codes.get(_NEAREST.get(kind, kind))
        if known is None:
            return VendorCode(rejection.status or _usual_status(rejection))
        # A bare status that means the same keeps its number.
        return VendorCode(rejection.status or known.status, known.code)


_NEAREST: Mapping[type[TTSError], type[TTSError]] = {
    speech.TTSConcurrencyError: speech.TTSBusyError,
    speech.TTSBusyError: speech.TTSConcurrencyError,
    speech.TTSTextTooLongError: speech.TTSBadRequestError,
    speech.TTSModelUnknownError: speech.TTSVoiceUnknownError,
    speech.TTSVoiceUnknownError: speech.TTSBadRequestError,
    speech.TTSUnsupportedFormatError: speech.TTSBadRequestError,
    speech.TTSAccountFlaggedError: speech.TTSInvalidKeyError,
    speech.TTSPlanRequiredError: speech.TTSInvalidKeyError,
}


def _error_class(rejection: Rejection) -> type[TTSError]:
    """Return the class of error that a rejection means, by its code or its status."""
    code = rejection.code or ""
    if code in ELEVENLABS_CODES:
        return ELEVENLABS_CODES[code].error
    if code in OPENAI_CODES:
        return OPENAI_CODES[code]
    return error_class_by_status(rejection.status or 500)


def _usual_status(rejection: Rejection) -> int:
    known = ELEVENLABS_CODES.get(rejection.code or "")
    return known.status if known else 500
