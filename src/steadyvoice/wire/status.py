"""What an HTTP status means by itself, as one must judge when a vendor's code is news."""

from __future__ import annotations

from steadyvoice.speech import errors as speech
from steadyvoice.speech.errors import TTSError


def by_status(status: int) -> type[TTSError]:
    """Choose the class of error. Whatever is not an error's status is an answer that is not audio."""
    match status:
        case 401 | 403:
            return speech.TTSInvalidKeyError
        case 402:
            return speech.TTSQuotaExceededError
        case 413:
            return speech.TTSTextTooLongError
        case 407:  # a proxy wants a name and a password
            return speech.TTSConnectError
        case 409 | 423 | 425 | 429:
            return speech.TTSBusyError
        case 404 | 405 | 410 | 421:  # nobody at this address speaks
            return speech.TTSNotAudioError
        case 408:
            return speech.TTSServerError
        case 400 | 422:
            return speech.TTSBadRequestError
        case _ if 400 <= status < 500:  # no caller's mistake is known to be told so: somebody else may speak
            return speech.TTSRefusedError
        case _ if status >= 500:
            return speech.TTSServerError
        case _:  # a success that is not audio, or a redirect
            return speech.TTSNotAudioError
