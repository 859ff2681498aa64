"""A request that is not served, before any dialect has put it in its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steadyvoice.simulator.acts import ErrorForm, Refuse
from steadyvoice.wire.request_validation import ValidationIssue


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why, by a code of ElevenLabs or OpenAI (each door finds its own word), and with which HTTP status if not the
    code's own. `issues` are the fields of a request that could not be read.
    """

    code: str | None = None
    message: str | None = None
    status: int | None = None
    param: str | None = None
    issues: Sequence[ValidationIssue] = ()
    form: ErrorForm | None = None
    retry_after: float | None = None  # seconds

    @classmethod
    def ordered(cls, act: Refuse) -> Refusal:
        """What a fault asks for."""
        return cls(act.code, act.message, act.status, form=act.form, retry_after=act.retry_after)


class RefusedError(Exception):
    """Raised to refuse the request at hand."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


def whole_seconds(wait: float) -> str:
    """Write a Retry-After in whole seconds, never too few. RFC 9110, 10.2.3, knows no others, and clients read none."""
    return str(math.ceil(wait))
