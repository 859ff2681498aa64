"""ElevenLabs over HTTP: paths, headers and the synthesis request, for whoever sends one and whoever answers it.

https://elevenlabs.io/docs/api-reference/text-to-speech. Beside this file: its errors, its models and voices, its
account, and audio with times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES, AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.voice import sound_id
from steadyvoice.wire.complaint import header, one_line
from steadyvoice.wire.elevenlabs_hints import MOST_IDS, issues_of_hints
from steadyvoice.wire.elevenlabs_models import DEFAULT_MODEL, model_facts
from steadyvoice.wire.elevenlabs_request_ids import STITCHING, stitches, tidied_fields
from steadyvoice.wire.fields import ELEVENLABS_QUERY, OPENAI_BODY, own_options
from steadyvoice.wire.issues import Issue, UnreadableRequestError, issues_of_text, read_document

DIALECT = "elevenlabs"
BASE_URL = "https://api.elevenlabs.io"
KEY_HEADER = "xi-api-key"
DEFAULT_FORMAT = "mp3_44100_128"

SPEECH_PATH = "/v1/text-to-speech"
ENDPOINTS = r"(/v[12])+(/(text-to-speech|text-to-dialogue|voices|models|user|history)(/.*)?)?"
"""Ends of an address that is given as the base of all (a regular expression)."""
VOICES_PATH = "/v1/voices"
VOICES_V2_PATH = "/v2/voices"
MODELS_PATH = "/v1/models"
USER_PATH = "/v1/user"
SUBSCRIPTION_PATH = "/v1/user/subscription"
HISTORY_PATH = "/v1/history"
DEFAULT_SETTINGS_PATH = "/v1/voices/settings/default"

SLOWEST, FASTEST = 0.7, 1.2
"""The limits of `voice_settings.speed`."""


_STREAMED_FORMATS = tuple(name for name in ELEVENLABS_FORMAT_NAMES if not name.startswith("wav_"))


class Form(Enum):
    """The four ways to ask for speech; the value is the end of the path."""

    WHOLE = ""
    STREAM = "/stream"
    TIMED = "/with-timestamps"
    TIMED_STREAM = "/stream/with-timestamps"

    @property
    def timed(self) -> bool:
        """Whether the answer is JSON with character times around the audio."""
        return self in (Form.TIMED, Form.TIMED_STREAM)

    @property
    def streams(self) -> bool:
        return self in (Form.STREAM, Form.TIMED_STREAM)

    @property
    def formats(self) -> tuple[str, ...]:
        """The `output_format`s it takes. A WAV's header tells its size, so what streams has none."""
        return _STREAMED_FORMATS if self.streams else ELEVENLABS_FORMAT_NAMES


def speech_path(voice_id: str, form: Form) -> str:
    """Build the path of a synthesis. The voice's id is quoted: it stays one step of the path."""
    return f"{SPEECH_PATH}/{quote(voice_id, safe='')}{form.value}"


def is_voice_id(voice: str) -> bool:
    """Whether the vendor could have a voice of this id. They are plain tokens, as a rule 20 letters and digits; nothing
    that would have to be quoted to stay one step of a path is one.
    """
    if len(voice) > _LONGEST_ID:
        return False
    return voice.isalnum() or (sound_id(voice) and voice == voice.strip() and not _QUOTED.search(voice))


_LONGEST_ID = 100
_QUOTED = re.compile(r"[/\\?#%]")


@dataclass(frozen=True, slots=True)
class SpeechCall:
    """One synthesis request as it goes over the wire; the voice is in its path.

    `settings` are further fields of the body, `query` further ones of the query.
    """

    text: str
    model_id: str = DEFAULT_MODEL
    output_format: str = DEFAULT_FORMAT
    settings: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    names_model: bool = True  # False: the client left it to the server, and `model_id` is the vendor's usual one

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {**self.settings, "text": self.text, "model_id": self.model_id}

    def params(self) -> dict[str, str]:
        """The query."""
        return {**self.query, "output_format": self.output_format}


def call_for(request: SpeechRequest, *, model_id: str, output_format: str) -> SpeechCall:
    """Put a request in ElevenLabs' words.

    A pace beyond its limits becomes the nearest one it has: heard a little slower beats not heard. Hints that
    the model would answer with an error are left out. `request.options` are added as they are, and win over hints.
    """
    options = own_options(request, DIALECT, OPENAI_BODY)
    query = {name: _flag(options.pop(name)) for name in sorted(ELEVENLABS_QUERY & options.keys())}
    if stitches(options):
        options = _known_ids(options, request, model_id)
    settings: dict[str, Any] = {**_hints(request, model_id), **options}
    if request.speed != 1.0:
        given = settings.get("voice_settings")
        speed = min(max(request.speed, SLOWEST), FASTEST)
        settings["voice_settings"] = {"speed": speed, **(given if isinstance(given, Mapping) else {})}
    return SpeechCall(request.text, model_id, output_format, settings, query)


def names_pace(request: SpeechRequest) -> bool:
    """Whether it asks for a pace in ElevenLabs' own words, which no other is put in the place of."""
    settings = own_options(request, DIALECT, OPENAI_BODY).get("voice_settings")
    return isinstance(settings, Mapping) and "speed" in settings


def read_call(query: Mapping[str, str], body: bytes, form: Form = Form.WHOLE) -> SpeechCall:
    """Read a client's request. Raises UnreadableRequestError, which a server answers with a 422."""
    return call_of(query, read_document(body), form)


def call_of(query: Mapping[str, str], document: dict[str, Any], form: Form = Form.WHOLE) -> SpeechCall:
    """Do the same with a body that is a document already, of which nobody else has a need any more."""
    issues = issues_of_text("text", document)
    text = document.pop("text", None)
    model_id = document.pop("model_id", None)
    output_format = query.get("output_format", DEFAULT_FORMAT)
    issues += issues_of_hints({**document, "model_id": model_id}, query)
    if output_format not in form.formats:
        expected = ", ".join(form.formats)
        issues.append(Issue("enum", ("query", "output_format"), f"Input should be one of {expected}", output_format))
    if issues:
        raise UnreadableRequestError(issues)
    others = {name: value for name, value in query.items() if name in ELEVENLABS_QUERY}
    named = model_id is not None
    return SpeechCall(text, model_id or DEFAULT_MODEL, output_format, document, others, names_model=named)


def request_from(call: SpeechCall, voice: str) -> SpeechRequest:
    """Turn a client's request into ours. Raises TTSBadRequestError when a value is impossible.

    A voice that can be no id of the vendor's is only somebody's name for one, or nobody's. The pace stands in
    `voice_settings` with them; it is taken out as `speed` too, for whoever steps in.
    """
    rest = {**call.settings, **call.query}
    speed = (call.settings.get("voice_settings") or {}).get("speed")
    hints = {ours: rest.pop(theirs) for ours, theirs in _HINTS.items() if rest.get(theirs) is not None}
    return SpeechRequest(
        call.text,
        AudioFormat.parse(call.output_format),
        voice=voice,
        model=call.model_id if call.names_model else None,
        speed=1.0 if speed is None else speed,
        options={name: value for name, value in rest.items() if value is not None},
        unknown_voice="passthrough" if is_voice_id(voice) else "refuse",
        dialect=DIALECT,
        **hints,
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the headers of a success tell: the request's id, its price, and how busy the account is."""

    request_id: str | None = None
    character_cost: float | None = None
    current_concurrent_requests: int | None = None
    maximum_concurrent_requests: int | None = None

    def headers(self) -> dict[str, str]:
        """Write it as headers; what is unknown is left out."""
        told = {
            "request-id": self.request_id,
            "character-cost": None if self.character_cost is None else plain_amount(self.character_cost),
            "current-concurrent-requests": self.current_concurrent_requests,
            "maximum-concurrent-requests": self.maximum_concurrent_requests,
        }
        return {name: str(value) for name, value in told.items() if value is not None}


def read_receipt(headers: Mapping[str, str]) -> Receipt:
    """Read it from headers. What is missing or makes no sense is None."""
    request_id = header(headers, "request-id")
    return Receipt(
        one_line(request_id, 100) if request_id else None,
        _amount(header(headers, "character-cost")),
        _count(header(headers, "current-concurrent-requests")),
        _count(header(headers, "maximum-concurrent-requests")),
    )


_HINTS = {
    "language": "language_code",
    "seed": "seed",
    "previous_text": "previous_text",
    "next_text": "next_text",
}


def _hints(request: SpeechRequest, model_id: str) -> dict[str, Any]:
    facts = model_facts(model_id)
    hints: dict[str, Any] = {"seed": request.seed}
    if facts.takes_language and request.language:
        hints["language_code"] = request.language.partition("-")[0].lower()  # "de-AT" is "de" to them
    if facts.takes_context:
        hints |= {"previous_text": request.previous_text, "next_text": request.next_text}
        # A request that is not logged has no id to go by.
        if request.previous_request_ids and str(request.options.get("enable_logging", True)).lower() != "false":
            hints["previous_request_ids"] = list(request.previous_request_ids[-MOST_IDS:])
    return {name: value for name, value in hints.items() if value is not None}


def _known_ids(options: Mapping[str, Any], request: SpeechRequest, model_id: str) -> dict[str, Any]:
    """Keep of a caller's request ids what the vendor can know; none where we chose a model that takes no ids."""
    options = tidied_fields(options)
    if request.model == model_id or model_facts(model_id).takes_context:
        return options
    return {name: value for name, value in options.items() if name not in STITCHING}


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def plain_amount(amount: float) -> str:
    """Write a number of characters as the vendor does: whole ones without a point."""
    return str(int(amount) if float(amount).is_integer() else amount)


def _amount(said: str | None) -> float | None:
    return float(said) if said and _AMOUNT.fullmatch(said) else None


def _count(said: str | None) -> int | None:
    return int(said) if said and _COUNT.fullmatch(said) else None


_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
