"""Asks a gateway how it is doing."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from steadyvoice.cli.complaint import MachineProblem, UsageProblem

_PATIENCE = 5.0  # seconds
_MOST = 32 * 1024 * 1024  # bytes
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a token is for nobody in between


class NobodyAnswersError(MachineProblem):
    """There is no gateway, or it does not say what a gateway says."""


def asked(url: str, path: str, token: str | None) -> Any:
    """What it answers. Raises UsageProblem for what only the caller can mend, NobodyAnswersError otherwise."""
    request = urllib.request.Request(_checked(url) + path)  # noqa: S310 - of http and https only
    if token:
        if not (token.isascii() and token.isprintable()):
            raise UsageProblem("STEADYVOICE_ADMIN_TOKEN: has characters that no header can carry")
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _DIRECTLY.open(request, timeout=_PATIENCE) as answer:
            return json.loads(_whole(answer))
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        told = f"no gateway answers at {url}: {why}; start one with `steadyvoice serve`, or name another with --url"
        raise NobodyAnswersError(told) from None
    except (ValueError, RecursionError):
        raise NobodyAnswersError(f"what answers at {url} is no gateway: it does not speak JSON") from None


def _whole(answer: IO[bytes]) -> bytes:
    """Read an answer to its end, if that comes soon and it is no larger than a gateway's. Raises ValueError."""
    data, end = bytearray(), time.monotonic() + _PATIENCE
    while part := answer.read1(64 * 1024):  # type: ignore[attr-defined]  # http.client.HTTPResponse has it
        data += part
        if len(data) > _MOST or time.monotonic() > end:
            raise ValueError("more than a gateway says")
    return bytes(data)


def printable(told: Any) -> Any:
    """The same without what a terminal would obey or could not show, such as escape sequences and lone surrogates."""
    match told:
        case str():
            return told if told.isprintable() else "".join(c if c.isprintable() else " " for c in told)
        case dict():
            return {printable(name): printable(each) for name, each in told.items()}
        case list():
            return [printable(each) for each in told]
        case _:
            return told


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = url.isascii() and url.isprintable() and " " not in url
        sound = sound and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UsageProblem(f"--url: must be like http://127.0.0.1:8040, got {url!r}")
    return url.rstrip("/")


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code in (401, 403):
        return UsageProblem(
            f"the gateway at {url} lets only who has its admin token look ({_reason(error)}): "
            "put it in STEADYVOICE_ADMIN_TOKEN"
        )
    return NobodyAnswersError(f"what answers at {url} is no gateway: HTTP {error.code}")


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(printable(str(json.loads(_whole(error))["error"]["message"])))[:200]
    except (OSError, HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return f"HTTP {error.code}"
