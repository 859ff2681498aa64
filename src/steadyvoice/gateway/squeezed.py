"""gzip, for whoever takes it: the page's files, and what /admin tells at length of the providers.

Nothing that is spoken, no event, and no list of calls. A length can give away what is compressed together: whoever may
call, and sees how long answers are on the wire, could guess at what stands beside a text of their own (BREACH,
https://www.breachattack.com). So what callers say is never compressed. What is has no secret in it (of callers, at
most the name of a voice), repeats nothing of the request it answers, and is given for a token in a header, which no
other site can make a browser send.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace

from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.reply import Reply

LEAST = 1400  # bytes: what fits into one packet gains nothing
VARY = {"vary": "accept-encoding"}
ZIPPED = {"content-encoding": "gzip", **VARY}
_FAST, _SMALL = 1, 9


def takes_gzip(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a client does, by its Accept-Encoding: https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding."""
    taken: dict[str, bool] = {}
    for part in headers.get(b"accept-encoding", b"").decode("latin-1").lower().split(","):
        coding, _, parameter = part.partition(";")
        taken[coding.strip()] = _is_wanted(parameter.strip())
    return taken.get("gzip", taken.get("*", False))


def _is_wanted(parameter: str) -> bool:
    name, _, weight = parameter.partition("=")
    if name.strip() != "q":
        return True
    try:
        return float(weight) > 0
    except ValueError:
        return False


def squeezed(reply: Reply, exchange: Exchange) -> Reply:
    """The same answer for this client, smaller if that is worth while."""
    if len(reply.body) < LEAST or not takes_gzip(exchange.headers):
        return replace(reply, headers={**reply.headers, **VARY})
    return replace(reply, body=gzip.compress(reply.body, _FAST, mtime=0), headers={**reply.headers, **ZIPPED})


def packed(body: bytes) -> bytes | None:
    """What is sent again and again, as small as can be; None where it would not be smaller."""
    small = gzip.compress(body, _SMALL, mtime=0)
    return small if len(body) >= LEAST and len(small) < len(body) else None
