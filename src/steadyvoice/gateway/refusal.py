"""A request at one of the gateway's own doors that cannot be done: how it is answered, and which field was wrong."""

from __future__ import annotations

from steadyvoice.gateway.own import error_reply
from steadyvoice.gateway.reply import Reply


class RefusedError(Exception):
    """Why not. `field` is what was wrong with the request."""

    def __init__(self, status: int, code: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field

    @property
    def reply(self) -> Reply:
        return error_reply(self.status, self.code, self.message, field=self.field)
