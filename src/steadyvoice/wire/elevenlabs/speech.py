"""ElevenLabs text-to-speech over HTTP: paths, headers, request bodies and their validation.

https://elevenlabs.io/docs/api-reference/text-to-speech/convert. Used by the adapter, which sends requests, and by the
gateway and the simulator, which answer them. Only what is certainly wrong is refused; unknown fields pass, for vendors
add new ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from steadyvoice._option_rules import is_whole_number
from steadyvoice.speech.format import ELEVENLABS_FORMAT_NAMES, AudioFormat
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.voice import is_valid_voice_id
from steadyvoice.wire.elevenlabs.catalog import DEFAULT_MODEL, get_model_info
from steadyvoice.wire.elevenlabs.request_stitching import REQUEST_ID_FIELDS, clean_request_id_fields, has_request_ids
from steadyvoice.wire.error_response import single_line
from steadyvoice.wire.request_validation import (
    ELEVENLABS_QUERY,
    OPENAI_BODY,
    RequestValidationError,
    ValidationIssue,
    parse_document,
    string_expected_issue,
    validate_flag,
    validate_text,
    vendor_options,
)

DIALECT = "elevenlabs"
BASE_URL = "https://api.elevenlabs.io"
KEY_HEADER = "xi-api-key"
DEFAULT_FORMAT = "mp3_44100_128"

SPEECH_PATH = "/v1/text-to-speech"
# The vendor's clients take a base URL without /v1; with it, every request went to /v1/v1.
ENDPOINTS = r"(/v[12])+(/(text-to-speech|text-to-dialogue|voices|models|user|history)(/.*)?)?"
"""Regular expression of paths that are removed from a base URL: some users give an endpoint's address."""
VOICES_PATH = "/v1/voices"
VOICES_V2_PATH = "/v2/voices"
MODELS_PATH = "/v1/models"
USER_PATH = "/v1/user"
SUBSCRIPTION_PATH = "/v1/user/subscription"
HISTORY_PATH = "/v1/history"
DEFAULT_SETTINGS_PATH = "/v1/voices/settings/default"

MIN_SPEED, MAX_SPEED = 0.7, 1.2
"""Limits of `voice_settings.speed`."""


_STREAMED_FORMATS = tuple(name for name in ELEVENLABS_FORMAT_NAMES if not name.startswith("wav_"))


class SpeechEndpoint(Enum):
    """Endpoint for speech; the value is the end of its path."""

    WHOLE = ""
    STREAM = "/stream"
    TIMED = "/with-timestamps"
    TIMED_STREAM = "/stream/with-timestamps"

    @property
    def timed(self) -> bool:
        """True if the response is JSON that contains the audio and character timestamps."""
        return self in (SpeechEndpoint.TIMED, SpeechEndpoint.TIMED_STREAM)

    @property
    def streams(self) -> bool:
        """True if the response is streamed."""
        return self in (SpeechEndpoint.STREAM, SpeechEndpoint.TIMED_STREAM)

    @property
    def formats(self) -> tuple[str, ...]:
        """Values of `output_format` that it takes. A WAV's header has its size, so streaming endpoints have no WAV."""
        return _STREAMED_FORMATS if self.streams else ELEVENLABS_FORMAT_NAMES


def speech_path(voice_id: str, form: SpeechEndpoint) -> str:
    """Return the path of a synthesis. The voice id is quoted, so that it stays one segment."""
    return f"{SPEECH_PATH}/{quote(voice_id, safe='')}{form.value}"


def is_voice_id(voice: str) -> bool:
    """Return whether a voice could be an id of the vendor.

    Ids are plain tokens, as a rule 20 letters and digits. A name with characters that are special in a URL is none.
    """
    if len(voice) > _MAX_ID_LENGTH:
        return False
    return voice.isalnum() or (is_valid_voice_id(voice) and voice == voice.strip() and not _URL_SPECIAL.search(voice))


_MAX_ID_LENGTH = 100
_URL_SPECIAL = re.compile(r"[/\\?#%]")


@dataclass(frozen=True, slots=True)
class ElevenLabsSpeechRequest:
    """Synthesis request as it is sent; the voice is in the path.

    `settings` are further fields of the body, `query` further parameters of the query.
    """

    text: str
    model_id: str = DEFAULT_MODEL
    output_format: str = DEFAULT_FORMAT
    settings: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    model_given: bool = True  # False: the client named no model, and `model_id` is the vendor's default

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {**self.settings, "text": self.text, "model_id": self.model_id}

    def params(self) -> dict[str, str]:
        """Return the query."""
        return {**self.query, "output_format": self.output_format}


def encode_request(request: SpeechRequest, *, model_id: str, output_format: str) -> ElevenLabsSpeechRequest:
    """Convert a request into ElevenLabs' form.

    A speed beyond the vendor's limits becomes the nearest one, which is better than a refusal. Hints that the model
    would answer with an error are left out. `request.options` are added unchanged, and win over hints.
    """
    options = vendor_options(request, DIALECT, OPENAI_BODY)
    query = {name: _format_flag(options.pop(name)) for name in sorted(ELEVENLABS_QUERY & options.keys())}
    if has_request_ids(options):
        options = _known_ids(options, request, model_id)
    settings: dict[str, Any] = {**_hints(request, model_id), **options}
    if request.speed != 1.0:
        voice_settings = settings.get("voice_settings")
        speed = min(max(request.speed, MIN_SPEED), MAX_SPEED)
        settings["voice_settings"] = {"speed": speed, **(voice_settings if isinstance(voice_settings, Mapping) else {})}
    return ElevenLabsSpeechRequest(request.text, model_id, output_format, settings, query)


def sets_voice_speed(request: SpeechRequest) -> bool:
    """Return whether the request sets `voice_settings.speed` itself, which is then not overwritten."""
    settings = vendor_options(request, DIALECT, OPENAI_BODY).get("voice_settings")
    return isinstance(settings, Mapping) and "speed" in settings


def parse_request(
    query: Mapping[str, str], body: bytes, form: SpeechEndpoint = SpeechEndpoint.WHOLE
) -> ElevenLabsSpeechRequest:
    """Parse a client's request. Raises RequestValidationError, which a server answers with a 422."""
    return parse_request_document(query, parse_document(body), form)


def parse_request_document(
    query: Mapping[str, str], document: dict[str, Any], form: SpeechEndpoint = SpeechEndpoint.WHOLE
) -> ElevenLabsSpeechRequest:
    """Parse a client's request whose body is a document already; the document becomes part of the result.

    Raises RequestValidationError.
    """
    issues = validate_text("text", document)
    text = document.pop("text", None)
    model_id = document.pop("model_id", None)
    output_format = query.get("output_format", DEFAULT_FORMAT)
    issues += validate_hints({**document, "model_id": model_id}, query)
    if output_format not in form.formats:
        expected = ", ".join(form.formats)
        issues.append(
            ValidationIssue("enum", ("query", "output_format"), f"Input should be one of {expected}", output_format)
        )
    if issues:
        raise RequestValidationError(issues)
    others = {name: value for name, value in query.items() if name in ELEVENLABS_QUERY}
    named = model_id is not None
    return ElevenLabsSpeechRequest(text, model_id or DEFAULT_MODEL, output_format, document, others, model_given=named)


def decode_request(call: ElevenLabsSpeechRequest, voice: str) -> SpeechRequest:
    """Convert a client's request into a SpeechRequest. Raises TTSBadRequestError for an impossible value.

    A voice that cannot be an id of the vendor is only looked up among the configured names. The speed stays in
    `voice_settings`, and is also taken out as `speed`, for the fallback providers.
    """
    rest = {**call.settings, **call.query}
    speed = (call.settings.get("voice_settings") or {}).get("speed")
    hints = {name: rest.pop(field) for name, field in _HINT_FIELDS.items() if rest.get(field) is not None}
    return SpeechRequest(
        call.text,
        AudioFormat.parse(call.output_format),
        voice=voice,
        model=call.model_id if call.model_given else None,
        speed=1.0 if speed is None else speed,
        options={name: value for name, value in rest.items() if value is not None},
        unknown_voice="passthrough" if is_voice_id(voice) else "refuse",
        dialect=DIALECT,
        **hints,
    )


_PLAIN_ID = re.compile("[!-~]{1,100}")


class SpeechResponseHeaders(msgspec.Struct, frozen=True):
    """Headers of a successful response: the request's id, its price, and the account's current concurrency."""

    request_id: str | None = None
    character_cost: float | None = None
    current_concurrent_requests: int | None = None
    maximum_concurrent_requests: int | None = None

    def headers(self) -> dict[str, str]:
        """Return them as headers, without those that are unknown."""
        values = {
            "request-id": self.request_id,
            "character-cost": None if self.character_cost is None else format_amount(self.character_cost),
            "current-concurrent-requests": self.current_concurrent_requests,
            "maximum-concurrent-requests": self.maximum_concurrent_requests,
        }
        return {name: str(value) for name, value in values.items() if value is not None}


def parse_response_headers(headers: Mapping[str, str]) -> SpeechResponseHeaders:
    """Parse a response's headers, by their names in lower case. A missing or invalid one is None."""
    request_id = headers.get("request-id")
    return SpeechResponseHeaders(
        # Nearly every id is one line as it is; there is a call for the others only.
        request_id if not request_id or _PLAIN_ID.fullmatch(request_id) else single_line(request_id, 100),
        _parse_amount(headers.get("character-cost")),
        _parse_count(headers.get("current-concurrent-requests")),
        _parse_count(headers.get("maximum-concurrent-requests")),
    )


_HINT_FIELDS = {
    "language": "language_code",
    "seed": "seed",
    "previous_text": "previous_text",
    "next_text": "next_text",
}


def _hints(request: SpeechRequest, model_id: str) -> dict[str, Any]:
    facts = get_model_info(model_id)
    hints: dict[str, Any] = {"seed": request.seed}
    if facts.takes_language and request.language:
        hints["language_code"] = request.language.partition("-")[0].lower()  # the vendor takes "de", not "de-AT"
    if facts.takes_context:
        hints |= {"previous_text": request.previous_text, "next_text": request.next_text}
        # A request that is not logged has no history by which the vendor could find the earlier ones.
        if request.previous_request_ids and str(request.options.get("enable_logging", True)).lower() != "false":
            hints["previous_request_ids"] = list(request.previous_request_ids[-MAX_LIST_ITEMS:])
    return {name: value for name, value in hints.items() if value is not None}


def _known_ids(options: Mapping[str, Any], request: SpeechRequest, model_id: str) -> dict[str, Any]:
    """Remove request ids that the vendor cannot know; all of them if the model, chosen by us, takes no ids."""
    options = clean_request_id_fields(options)
    if request.model == model_id or get_model_info(model_id).takes_context:
        return options
    return {name: value for name, value in options.items() if name not in REQUEST_ID_FIELDS}


def _format_flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=1024)
def format_amount(amount: float) -> str:
    """Format a number of characters as the vendor does: whole numbers without a decimal point."""
    return str(int(amount) if float(amount).is_integer() else amount)


@lru_cache(maxsize=1024)  # the length of a text is its cost, so the same amounts come again
def _parse_amount(value: str | None) -> float | None:
    return float(value) if value and _AMOUNT.fullmatch(value) else None


@lru_cache(maxsize=1024)
def _parse_count(value: str | None) -> int | None:
    return int(value) if value and _COUNT.fullmatch(value) else None


_AMOUNT = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)


MAX_LIST_ITEMS = 3
"""Largest number of ids of earlier and of later requests, and of pronunciation dictionaries."""

_STRINGS = ("model_id", "language_code", "previous_text", "next_text")
_IDS = ("previous_request_ids", "next_request_ids")
_DICTIONARIES = "pronunciation_dictionary_locators"
_NORMALIZATION = ("auto", "on", "off")
_FLAGS = ("use_pvc_as_ivc", "apply_language_text_normalization")
_OBJECTS = ("voice_settings", "audio_effects")
_LATENCIES = ("0", "1", "2", "3", "4")


def validate_hints(document: Mapping[str, Any], query: Mapping[str, str]) -> list[ValidationIssue]:
    """Return the issues of optional fields of the body, and of the query without the format. Null counts as absent."""
    fields = {name: value for name, value in document.items() if value is not None}
    if not fields and not query:  # most requests have neither
        return []
    return [*_body_issues(fields), *_flag_issues(fields), *_list_issues(fields), *_query_issues(query)]


def _body_issues(fields: Mapping[str, Any]) -> Iterator[ValidationIssue]:
    yield from (
        string_expected_issue(name, fields[name]) for name in _STRINGS if not isinstance(fields.get(name, ""), str)
    )
    seed = fields.get("seed", 0)
    if not (is_whole_number(seed) and 0 <= seed < 2**32):
        yield ValidationIssue("int_type", ("body", "seed"), "Input should be an integer from 0 to 4294967295", seed)
    for name in _OBJECTS:
        if not isinstance(fields.get(name, {}), dict):
            yield ValidationIssue("dict_type", ("body", name), "Input should be an object", fields[name])
    normalization = fields.get("apply_text_normalization", "auto")
    if normalization not in _NORMALIZATION:
        yield ValidationIssue(
            "enum", ("body", "apply_text_normalization"), "Input should be 'auto', 'on' or 'off'", normalization
        )


def _flag_issues(fields: Mapping[str, Any]) -> Iterator[ValidationIssue]:
    settings = fields.get("voice_settings")
    boost = settings.get("use_speaker_boost") if isinstance(settings, dict) else None
    flags = {("body", name): fields.get(name) for name in _FLAGS} | {
        ("body", "voice_settings", "use_speaker_boost"): boost
    }
    yield from filter(None, (validate_flag(loc, value) for loc, value in flags.items() if value is not None))


def _list_issues(fields: Mapping[str, Any]) -> Iterator[ValidationIssue]:
    for name, kind in (*dict.fromkeys(_IDS, str).items(), (_DICTIONARIES, dict)):
        items = fields.get(name, [])
        if not (isinstance(items, list) and all(isinstance(each, kind) for each in items)):
            of_what = "strings" if kind is str else "objects"
            yield ValidationIssue("list_type", ("body", name), f"Input should be a valid list of {of_what}", items)
        elif len(items) > MAX_LIST_ITEMS:
            expected = f"List should have at most {MAX_LIST_ITEMS} items after validation, not {len(items)}"
            yield ValidationIssue("too_long", ("body", name), expected, items)


def _query_issues(query: Mapping[str, str]) -> Iterator[ValidationIssue]:
    logging, latency = query.get("enable_logging", "true"), query.get("optimize_streaming_latency", "0")
    if issue := validate_flag(("query", "enable_logging"), logging):
        yield issue
    if latency not in _LATENCIES:
        expected = "Input should be an integer from 0 to 4"
        yield ValidationIssue("int_parsing", ("query", "optimize_streaming_latency"), expected, latency)


# `GET /v1/audio-effects/catalog` lists all of them; these are the ones that the documentation names.
EFFECTS: Mapping[str, tuple[str, ...]] = {
    "filter_preset_id": ("phone", "old_radio"),
    "environment_id": ("small_room", "hall"),
    "background_noise_id": ("cafe", "keyboard"),
}
"""Fields of `audio_effects` that hold an effect's id, and the known ids."""

_MONO = ("pcm_", "ulaw_", "alaw_")


def find_unknown_effect(effects: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the first unknown id of an effect with its field, None if all are known."""
    ids = ((field, effects.get(field)) for field in EFFECTS)
    return next(((field, id) for field, id in ids if id is not None and id not in EFFECTS[field]), None)


def needs_stereo(effects: Mapping[str, Any], output_format: str) -> bool:
    """Return whether these effects need stereo, and the format is mono."""
    reverb = effects.get("environment_id") is not None and _is_positive(effects.get("send_level"))
    return output_format.startswith(_MONO) and (reverb or _is_positive(effects.get("pan"), either_side=True))


def _is_positive(level: Any, *, either_side: bool = False) -> bool:
    return isinstance(level, int | float) and (level > 0 or (either_side and level < 0))
