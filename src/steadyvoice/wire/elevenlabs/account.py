"""ElevenLabs account: `GET /v1/user/subscription` with the quota, `GET /v1/user`, and `GET /v1/history`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
