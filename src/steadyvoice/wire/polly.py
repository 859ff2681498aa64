"""Amazon Polly over HTTP: `POST /v1/speech`, audio formats and errors.

Sources: the service model in botocore 1.44, https://docs.aws.amazon.com/polly/latest/dg/API_SynthesizeSpeech.html and
https://docs.aws.amazon.com/polly/latest/dg/limits.html. Common errors of AWS:
https://docs.aws.amazon.com/polly/latest/dg/CommonErrors.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from steadyvoice.speech import errors as speech
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.wire.error_response import get_header
from steadyvoice.wire.error_table import ErrorTable

DIALECT = "polly"
SPEECH_PATH = "/v1/speech"
VOICES_PATH = "/v1/voices"
ENDPOINTS = r"/v1(/speech|/voices)?"
"""Regular expression of paths that are removed from a base URL."""
SERVICE = "polly"
"""Name of the service in a signature."""

DEFAULT_VOICE = "Joanna"
DEFAULT_ENGINE = "neural"
ENGINES = ("standard", "neural", "long-form", "generative")
MAX_CHARACTERS = 3000
"""Billed characters of one request."""
MIN_SPEED, MAX_SPEED = 0.5, 2.0
"""Range of `rate` of a `prosody` element."""

# The bit rates of MP3 and Opus are documented nowhere, so they are not requested.
FORMATS: Mapping[AudioFormat, tuple[str, str]] = {
    AudioFormat(Codec.PCM, 8000): ("pcm", "8000"),
    AudioFormat(Codec.PCM, 16_000): ("pcm", "16000"),
    AudioFormat(Codec.ULAW, 8000): ("mulaw", "8000"),
    AudioFormat(Codec.ALAW, 8000): ("alaw", "8000"),
}
"""`OutputFormat` and `SampleRate` of each format that the vendor sends exactly as it is named here."""

DEFAULT_FORMAT = AudioFormat(Codec.PCM, 16_000)

ERRORS = ErrorTable(
    codes={
        "TextLengthExceededException": speech.TTSTextTooLongError,
        "InvalidSampleRateException": speech.TTSUnsupportedFormatError,
        "InvalidSsmlException": speech.TTSBadRequestError,
        "LanguageNotSupportedException": speech.TTSBadRequestError,
        "EngineNotSupportedException": speech.TTSModelUnknownError,
        "LexiconNotFoundException": speech.TTSBadRequestError,
        "ResourceNotFoundException": speech.TTSVoiceUnknownError,
        "ConflictException": speech.TTSVoiceUnknownError,  # a custom voice that is not active
        "ServiceFailureException": speech.TTSServerError,
        "ThrottlingException": speech.TTSBusyError,
        "TooManyRequestsException": speech.TTSBusyError,
        "RequestLimitExceeded": speech.TTSBusyError,
        "ServiceQuotaExceededException": speech.TTSConcurrencyError,
        "InternalFailure": speech.TTSServerError,
        "ServiceUnavailableException": speech.TTSServerError,
        "UnrecognizedClientException": speech.TTSInvalidKeyError,
        "InvalidClientTokenId": speech.TTSInvalidKeyError,
        "InvalidSignatureException": speech.TTSInvalidKeyError,
        "SignatureDoesNotMatch": speech.TTSInvalidKeyError,
        "IncompleteSignatureException": speech.TTSInvalidKeyError,
        "MissingAuthenticationTokenException": speech.TTSInvalidKeyError,
        "ExpiredTokenException": speech.TTSInvalidKeyError,
        "AccessDeniedException": speech.TTSInvalidKeyError,  # the key has no permission for this service
        "OptInRequired": speech.TTSPlanRequiredError,
    },
    wordings=((re.compile(r"voiceid", re.IGNORECASE), speech.TTSVoiceUnknownError),),
    code_fields=("__type", "code", "Code"),
    message_fields=("message", "Message"),
    code_header="x-amzn-errortype",
    request_id_headers=("x-amzn-requestid",),
)

_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,3}-\d{1,2}\Z")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def base_url_of_region(region: str) -> str:
    """Return the address of the service in a region. Raises ValueError for text that is no region.

    >>> base_url_of_region("eu-central-1")
    'https://polly.eu-central-1.amazonaws.com'
    """
    if not _REGION.match(region):
        raise ValueError(f'must be a region such as "eu-central-1", got {region!r}')
    return f"https://polly.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def speech_document(
    *, voice: str, engine: str, format: AudioFormat, language: str | None = None, ssml: bool = False
) -> dict[str, Any]:
    """Return the JSON body of a request but for its `Text`."""
    output, rate = FORMATS[format]
    spoken = {} if language is None else {"LanguageCode": language}
    return {
        "Engine": engine,
        "OutputFormat": output,
        "SampleRate": rate,
        "TextType": "ssml" if ssml else "text",
        "VoiceId": voice,
        **spoken,
    }


def prosody(text: str, speed: float) -> str:
    """Return the SSML that has a text spoken at a speed.

    >>> prosody("1 < 2", 1.5)
    '<speak><prosody rate="150%">1 &lt; 2</prosody></speak>'
    """
    percent = round(100 * min(max(speed, MIN_SPEED), MAX_SPEED))
    return f'<speak><prosody rate="{percent}%">{escape(_NOT_IN_XML.sub(" ", text))}</prosody></speak>'


def characters_billed(headers: Mapping[str, str]) -> float | None:
    """Return the characters that a response was billed for; None if it does not say."""
    count = get_header(headers, "x-amzn-requestcharacters")
    return float(count) if count and re.fullmatch(r"\d{1,9}", count, re.ASCII) else None
