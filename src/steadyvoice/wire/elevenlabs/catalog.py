"""ElevenLabs catalog and account: models with their limits, default voices, quota, and the lists of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from steadyvoice.speech.markup import Markup
from steadyvoice.speech.writing_systems import scripts_of_languages
from steadyvoice.wire.request_validation import RequestValidationError, ValidationIssue


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Model: the characters that a request may have, and the hints, languages and markup that it supports."""

    model_id: str
    max_characters: int
    takes_context: bool = True  # previous_text and next_text; an error where it does not
    takes_language: bool = False  # language_code; an error where it does not
    takes_speed: bool = True  # voice_settings.speed; all models accept it, but it has no effect where this is False
    languages: tuple[str, ...] | None = None  # None: not listed completely anywhere
    markup: Markup = Markup.SSML  # of which v2.5 and multilingual models perform the pauses, and ignore the rest

    @property
    def scripts(self) -> frozenset[str] | None:
        """Writing systems of its languages; None: any."""
        return None if self.languages is None else _scripts_of(self.languages)


# Read for every request, for one of a few lists of languages.
_scripts_of = lru_cache(scripts_of_languages)

_ENGLISH = ("en",)
_29 = (
    *("en", "ja", "zh", "de", "hi", "fr", "ko", "pt", "it", "es", "id", "nl", "tr", "fil", "pl"),
    *("sv", "bg", "ro", "ar", "cs", "el", "fi", "hr", "ms", "sk", "da", "ta", "uk", "ru"),
)
_32 = (*_29, "hu", "no", "vi")


# Limits and languages: https://elevenlabs.io/docs/overview/models. Markup: "all of our models, with the exception of
# Eleven V3, support SSML break tags", and audio tags "are exclusive to Eleven V3" (help.elevenlabs.io, article
# 24352686926609). <phoneme> is performed by the English models only.
# language_code: the v2.5 models only, as pipecat found.
MODELS: Mapping[str, ModelInfo] = {
    model.model_id: model
    for model in (
        # The help page says that all models have a speed; those who tried it with v3 heard no difference.
        ModelInfo("eleven_v3", 3_000, takes_context=False, takes_speed=False, markup=Markup.AUDIO_TAGS),
        # Named by the SDK since 2.78, and documented nowhere yet: what they take is a guess, that they are like v3.
        ModelInfo("eleven_v3_conversational", 3_000, takes_context=False, takes_speed=False, markup=Markup.AUDIO_TAGS),
        ModelInfo("eleven_v4", 3_000, takes_context=False, takes_speed=False, markup=Markup.AUDIO_TAGS),
        ModelInfo("eleven_v4_turbo", 3_000, takes_context=False, takes_speed=False, markup=Markup.AUDIO_TAGS),
        ModelInfo("eleven_multilingual_v2", 10_000, languages=_29),
        ModelInfo("eleven_flash_v2", 30_000, languages=_ENGLISH),
        ModelInfo("eleven_turbo_v2", 30_000, languages=_ENGLISH),
        ModelInfo("eleven_flash_v2_5", 40_000, takes_language=True, languages=_32),
        ModelInfo("eleven_turbo_v2_5", 40_000, takes_language=True, languages=_32),
    )
}

DEFAULT_MODEL = "eleven_multilingual_v2"
"""Model that ElevenLabs uses when a request names none."""

# The voices every account has: https://elevenlabs.io/docs/product/voices/default-voices. Bella is LiveKit's default.
VOICES: Mapping[str, str] = {
    "Aria": "9BWtsMINqrJLrRacOk9x",
    "Roger": "CwhRBWXzGAHq8TQ4Fs17",
    "Sarah": "EXAVITQu4vr4xnSDxMaL",
    "Laura": "FGY2WhTYpPnrIDTdsKH5",
    "Charlie": "IKne3meq5aSn9XLyUdCD",
    "George": "JBFqnCBsd6RMkjVDRZzb",
    "Callum": "N2lVS1w4EtoT3dr4eOWO",
    "River": "SAz9YHcvj6GT2YYXdXww",
    "Liam": "TX3LPaxmHKxFdv7VOQHJ",
    "Charlotte": "XB0fDUnXU5powFXDhCwa",
    "Alice": "Xb7hH8MSUJpSbSDYk0k2",
    "Matilda": "XrExE9yKIg1WjnnlVkGX",
    "Will": "bIHbv24MWmeRgasZH58o",
    "Jessica": "cgSgspJ2msm6clMCkdW9",
    "Eric": "cjVigY5qzO86Huf0OWal",
    "Chris": "iP95p4xoKVk53GoZ742B",
    "Brian": "nPczCjzI2devNBz1zQrb",
    "Daniel": "onwK4e9ZLuTAKqWW03F9",
    "Lily": "pFZP5JQG7iQjIQuC4Bku",
    "Bill": "pqHfZKP75CvOlQylNhV4",
    "Rachel": "21m00Tcm4TlvDq8ikWAM",
    "Adam": "pNInz6obpgDQGcFmaJgB",
    "Bella": "hpp4J3VqNfWAUOO0d1Us",
    "Harry": "SOYHLrjzK2X1ezoPC6cr",
}

# Older default voices, which the vendor lists no longer but still accepts; frameworks and examples name them.
FURTHER_VOICES: Mapping[str, str] = {
    "Drew": "29vD33N1CtxCmqQRPOHJ",
    "Clyde": "2EiwWnXFnvU5JabPnv8n",
    "Paul": "5Q0t7uMcjvnagumLfvZi",
    "Domi": "AZnzlk1XvdvUeBnXmlld",
    "Dave": "CYw3kZ02Hs0563khs1Fj",
    "Fin": "D38z5RcWu1voky8WS1ja",
    "Antoni": "ErXwobaYiN019PkySvjV",
    "Thomas": "GBv7mTt0atIp3Br8iCZE",
    "Emily": "LcfcDJNUP1GQjkzn1xUU",
    "Elli": "MF3mGyEYCl7XYWbV9V6O",
    "Patrick": "ODq5zmih8GrVes37Dizd",
    "Dorothy": "ThT5KcBeYPX3keUQqHPh",
    "Josh": "TxGEqnHWrfWFTfGW9XjX",
    "Mark": "UgBBYS2sOqTuMpoF3BR0",
    "Arnold": "VR6AewLTigWG4xSOukaG",
    "James": "ZQe5CZNOzWyzPSCn5a3c",
    "Joseph": "Zlb1dXrM653N07WRdFW3",
    "Jeremy": "bVMeCyTHy58xNoL34h3p",
    "Michael": "flq6f7yk4E4fJM5XTYuZ",
    "Ethan": "g5CIjZEefAph4nQFvHAz",
    "Gigi": "jBpfuIE2acCO8z3wKNLl",
    "Freya": "jsCqWAovK2LkecY7zXl4",
    "Grace": "oWAxZDx7w5VEj9dCyTzz",
    "Serena": "pMsXgVXv3BLzUgSXRplE",
    "Nicole": "piTKgcLEGmPE4e6mEKli",
    "Jessie": "t0jbNlBVZ17f02VDIeMI",
    "Ryan": "wViXBPUzp2ZZixB1xQuM",
    "Sam": "yoZ06aMxZJJ28mfd3POQ",
    "Glinda": "z9fAnlkpzviPz146aGWa",
    "Giovanni": "zcAOhNBS3c14rBihAFp1",
    "Mimi": "zrHiDhphv9ZnVXBqCLjz",
}

MAX_PAGE_SIZE = 100
"""Voices on one page of `GET /v2/voices`."""

_SMALLEST_LIMIT = min(model.max_characters for model in MODELS.values())


def get_model_info(model_id: str) -> ModelInfo:
    """Return a model's facts. An unknown model gets the smallest limit and no hints.

    A text that is split too small costs a little prosody; one too long, or a refused hint, costs the utterance.
    """
    return MODELS.get(model_id) or ModelInfo(model_id, _SMALLEST_LIMIT, takes_context=False, takes_speed=False)


def models_body(models: Iterable[ModelInfo] = tuple(MODELS.values())) -> list[dict[str, Any]]:
    """Return the body of `GET /v1/models`."""
    return [
        {
            "model_id": model.model_id,
            "name": model.model_id.replace("_", " ").title(),
            "description": "",
            "can_be_finetuned": False,
            "can_do_text_to_speech": True,
            "can_do_voice_conversion": False,
            "can_use_style": True,
            "can_use_speaker_boost": True,
            "serves_pro_voices": False,
            "requires_alpha_access": False,
            "max_characters_request_free_user": model.max_characters,
            "max_characters_request_subscribed_user": model.max_characters,
            "maximum_text_length_per_request": model.max_characters,
            "token_cost_factor": 1.0,
            "model_rates": {"character_cost_multiplier": 1.0},
            "concurrency_group": "standard",
            "languages": [{"language_id": "en", "name": "English"}],
        }
        for model in models
    ]


def voice_body(name: str, voice_id: str) -> dict[str, Any]:
    """Return the body of `GET /v1/voices/{voice_id}`. Fields that a default voice lacks are null."""
    return {
        "voice_id": voice_id,
        "name": name,
        "category": "premade",
        "labels": {},
        "description": None,
        "preview_url": None,
        "samples": None,
        "settings": None,
        "sharing": None,
        "available_for_tiers": [],
        "high_quality_base_model_ids": [],
        "verified_languages": None,
        "is_owner": False,
        "is_legacy": False,
        "is_mixed": False,
        "created_at_unix": None,
    }


def voice_settings_body() -> dict[str, Any]:
    """Return the body of `GET /v1/voices/settings/default`, and of `GET /v1/voices/{voice_id}/settings`."""
    return {"stability": 0.5, "similarity_boost": 0.75, "style": 0.0, "use_speaker_boost": True, "speed": 1.0}


def voices_body(voices: Mapping[str, str] = VOICES) -> dict[str, Any]:
    """Return the body of `GET /v1/voices`. `voices` maps names to ids."""
    return {"voices": [voice_body(name, voice_id) for name, voice_id in voices.items()]}


@dataclass(frozen=True, slots=True)
class VoiceSearch:
    """Query of `GET /v2/voices`: filter and page. A `page_size` of None means all."""

    search: str = ""  # in names
    voice_ids: Sequence[str] = ()
    page_size: int | None = None
    next_page_token: str | None = None  # from the page before


def parse_voice_search(query: Sequence[tuple[str, str]]) -> VoiceSearch:
    """Parse the query of `GET /v2/voices`. Raises RequestValidationError, which a server answers with a 422."""
    values = dict(query)
    size = values.get("page_size")
    if size is not None and not (size.isascii() and size.isdigit() and 1 <= int(size) <= MAX_PAGE_SIZE):
        expected = f"Input should be an integer from 1 to {MAX_PAGE_SIZE}"
        raise RequestValidationError([ValidationIssue("int_parsing", ("query", "page_size"), expected, size)])
    ids = tuple(value for name, value in query if name == "voice_ids")
    return VoiceSearch(values.get("search", ""), ids, int(size) if size else None, values.get("next_page_token"))


def found_voices_body(query: VoiceSearch, voices: Mapping[str, str] = VOICES) -> dict[str, Any]:
    """Return the body of `GET /v2/voices`: one page of the voices found. An unknown token starts from the beginning."""
    found = [
        voice_body(name, voice_id)
        for name, voice_id in voices.items()
        if query.search.casefold() in name.casefold() and (not query.voice_ids or voice_id in query.voice_ids)
    ]
    ids = [voice["voice_id"] for voice in found]
    begin = ids.index(query.next_page_token) if query.next_page_token in ids else 0
    end = len(found) if query.page_size is None else begin + query.page_size
    token = ids[end] if end < len(ids) else None  # the first of the next page
    return {
        "voices": found[begin:end],
        "has_more": token is not None,
        "total_count": len(found),
        "next_page_token": token,
    }


@dataclass(frozen=True, slots=True)
class Subscription:
    """Quota of an account: characters used and allowed until its counter is reset (in Unix seconds)."""

    character_count: int
    character_limit: int
    next_reset_unix: int | None = None
    tier: str = "free"
    status: str = "active"
    extension: int = 0  # characters allowed beyond the limit
    unlimited: bool = False

    @property
    def remaining(self) -> int | None:
        """Characters left, None without a limit. A longer request is refused, while shorter ones are accepted."""
        if self.unlimited:
            return None
        return max(self.character_limit + self.extension - self.character_count, 0)


def parse_subscription(document: Mapping[str, Any]) -> Subscription:
    """Parse the vendor's response. Raises ValueError when the counters are missing."""
    counters = document.get("character_count"), document.get("character_limit")
    if not all(isinstance(counter, int) for counter in counters):
        raise ValueError("a subscription without character_count and character_limit")
    extension = document.get("max_credit_limit_extension")
    allowed = document.get("allowed_to_extend_character_limit") is True
    return Subscription(
        character_count=document["character_count"],
        character_limit=document["character_limit"],
        next_reset_unix=document.get("next_character_count_reset_unix"),
        tier=str(document.get("tier", "free")),
        status=str(document.get("status", "active")),
        extension=extension if allowed and isinstance(extension, int) else 0,
        unlimited=allowed and extension == "unlimited",
    )


def subscription_body(subscription: Subscription) -> dict[str, Any]:
    """Return the body of `GET /v1/user/subscription`."""
    return {**_plan(subscription), "next_invoice": None, "open_invoices": [], "has_open_invoices": False}


def user_body(user_id: str, subscription: Subscription) -> dict[str, Any]:
    """Return the body of `GET /v1/user`."""
    return {
        "user_id": user_id,
        "workspace_id": user_id,  # a workspace of its own
        "subscription": _plan(subscription),
        "is_new_user": False,
        "can_use_delayed_payment_methods": False,
        "is_onboarding_completed": True,
        "is_onboarding_checklist_completed": True,
        "created_at": 0,
        "seat_type": "workspace_admin",
    }


def history_body() -> dict[str, Any]:
    """Return the body of `GET /v1/history` for an account without a history, or one that is not shown."""
    return {"history": [], "last_history_item_id": None, "has_more": False, "scanned_until": None}


def _plan(subscription: Subscription) -> dict[str, Any]:
    """Return the fields of a subscription that the vendor's SDKs require."""
    may_extend = subscription.unlimited or subscription.extension > 0
    return {
        "tier": subscription.tier,
        "character_count": subscription.character_count,
        "character_limit": subscription.character_limit,
        "max_credit_limit_extension": "unlimited" if subscription.unlimited else subscription.extension,
        "can_extend_character_limit": may_extend,
        "allowed_to_extend_character_limit": may_extend,
        "next_character_count_reset_unix": subscription.next_reset_unix,
        "voice_slots_used": 0,
        "professional_voice_slots_used": 0,
        "professional_voice_slots_used_in_workspace": 0,
        "voice_limit": 10,
        "voice_add_edit_counter": 0,
        "professional_voice_limit": 0,
        "can_extend_voice_limit": False,
        "can_use_instant_voice_cloning": False,
        "can_use_professional_voice_cloning": False,
        "currency": "usd",
        "status": subscription.status,
        "billing_period": "monthly_period",
        "character_refresh_period": "monthly_period",
        "current_overage": {"amount": "0", "currency": "usd"},
    }
