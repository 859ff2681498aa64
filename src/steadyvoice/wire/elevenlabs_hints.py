"""What may stand beside the text in a request to ElevenLabs, and what is wrong with what stands there.

Only what is certain is refused: https://elevenlabs.io/docs/api-reference/text-to-speech/convert. Fields that are not
here pass, for vendors add new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from steadyvoice.wire.issues import Issue, flag_expected, string_expected

MOST_IDS = 3
"""Of the requests before this one, of those behind it, and of pronunciation dictionaries."""

_STRINGS = ("model_id", "language_code", "previous_text", "next_text")
_IDS = ("previous_request_ids", "next_request_ids")
_DICTIONARIES = "pronunciation_dictionary_locators"
_NORMALIZATION = ("auto", "on", "off")
_FLAGS = ("use_pvc_as_ivc", "apply_language_text_normalization")
_OBJECTS = ("voice_settings", "audio_effects")
_LATENCIES = ("0", "1", "2", "3", "4")


def issues_of_hints(document: Mapping[str, Any], query: Mapping[str, str]) -> list[Issue]:
    """Check the fields of the body, and what the query has beside the format. Null is as good as absent."""
    given = {name: value for name, value in document.items() if value is not None}
    if not given and not query:  # as most requests are
        return []
    return [*_in_body(given), *_in_flags(given), *_in_lists(given), *_in_query(query)]


def _in_body(given: Mapping[str, Any]) -> Iterator[Issue]:
    yield from (string_expected(name, given[name]) for name in _STRINGS if not isinstance(given.get(name, ""), str))
    seed = given.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        yield Issue("int_type", ("body", "seed"), "Input should be an integer from 0 to 4294967295", seed)
    for name in _OBJECTS:
        if not isinstance(given.get(name, {}), dict):
            yield Issue("dict_type", ("body", name), "Input should be an object", given[name])
    normalization = given.get("apply_text_normalization", "auto")
    if normalization not in _NORMALIZATION:
        yield Issue(
            "enum", ("body", "apply_text_normalization"), "Input should be 'auto', 'on' or 'off'", normalization
        )


def _in_flags(given: Mapping[str, Any]) -> Iterator[Issue]:
    settings = given.get("voice_settings")
    boost = settings.get("use_speaker_boost") if isinstance(settings, dict) else None
    told = {("body", name): given.get(name) for name in _FLAGS} | {
        ("body", "voice_settings", "use_speaker_boost"): boost
    }
    yield from filter(None, (flag_expected(loc, value) for loc, value in told.items() if value is not None))


def _in_lists(given: Mapping[str, Any]) -> Iterator[Issue]:
    for name, kind in (*dict.fromkeys(_IDS, str).items(), (_DICTIONARIES, dict)):
        told = given.get(name, [])
        if not (isinstance(told, list) and all(isinstance(each, kind) for each in told)):
            of_what = "strings" if kind is str else "objects"
            yield Issue("list_type", ("body", name), f"Input should be a valid list of {of_what}", told)
        elif len(told) > MOST_IDS:
            said = f"List should have at most {MOST_IDS} items after validation, not {len(told)}"
            yield Issue("too_long", ("body", name), said, told)


def _in_query(query: Mapping[str, str]) -> Iterator[Issue]:
    logging, latency = query.get("enable_logging", "true"), query.get("optimize_streaming_latency", "0")
    if issue := flag_expected(("query", "enable_logging"), logging):
        yield issue
    if latency not in _LATENCIES:
        said = "Input should be an integer from 0 to 4"
        yield Issue("int_parsing", ("query", "optimize_streaming_latency"), said, latency)
