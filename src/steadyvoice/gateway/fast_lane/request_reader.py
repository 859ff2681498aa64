"""Request reader: parses whole requests of many connections by one parser, without a Python call for their parts.

Only a POST whose head and body have come, and nothing behind them, is read here. Everything else is left to the parser
of its own connection, from its first byte on.

Clients repeat their heads byte for byte. One that was parsed before is known with all that it says, the length of its
body included, so that only the body is cut off.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import NamedTuple

import httptools

MAX_REQUEST = 64 * 1024
"""Bytes of head and body together; longer requests are left to their connection."""

_MAX_HEAD = 8 * 1024
_MAX_KNOWN, _MAX_KNOWN_HEAD = 512, 2 * 1024  # heads, and bytes of one

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE)

_UNUSUAL_HEADERS = (
    b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"origin", b"sec-fetch-site", b"sec-fetch-mode",
)  # fmt: skip
_UNUSUAL_HEAD = re.compile(rb"\r\n(?:%b)[ \t]*:" % b"|".join(_UNUSUAL_HEADERS), re.IGNORECASE)


_lower = lru_cache(maxsize=256)(bytes.lower)  # thousands of requests have the same few headers


class UsualHead(NamedTuple):
    """Head of a request of a usual form."""

    url: bytes
    size: int
    """Bytes up to the body."""
    whole: int
    """Bytes of head and body together."""
    headers: dict[bytes, bytes] | None
    """Headers by their names in lower case, each of which occurs once; None until the head was parsed."""


class WholeRequest(NamedTuple):
    """Request of a usual form; the names of its headers are in lower case, and each occurs once."""

    url: bytes
    headers: dict[bytes, bytes]
    body: bytes


_whole_request = partial(tuple.__new__, WholeRequest)  # a Python call less than the class


class RequestReader:
    """Reader of requests that have come as a whole.

    The parser's callbacks are methods of lists and dictionaries, which decide nothing: what they have noted is
    inspected afterwards. A dictionary hides repeated headers, one of which may decide on access; they show as fewer
    headers than lines. The parser, and not the expression that finds the length, decides where a body ends.
    """

    __slots__ = (
        "_bodies", "_feed", "_headers", "_known", "_open", "_urls", "on_body", "on_header", "on_message_complete",
        "on_url",
    )  # fmt: skip

    def __init__(self) -> None:
        self._urls: list[bytes] = []
        self._bodies: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._known: dict[bytes, UsualHead] = {}  # heads that were parsed, by their bytes
        self._open: list[bool] = []  # empty once a message is complete; a second one is an error
        self.on_url, self.on_body = self._urls.append, self._bodies.append
        self.on_header, self.on_message_complete = self._headers.__setitem__, self._open.pop
        self._renew()

    def _renew(self) -> None:
        self._feed = httptools.HttpRequestParser(self).feed_data

    def find_head(self, data: bytes) -> UsualHead | None:
        """Return the head of a usual request; None if `data` is the beginning of no such."""
        size = data.find(b"\r\n\r\n", 0, _MAX_HEAD) + 4
        known = self._known.get(data[:size])
        if known is not None:
            return known
        if size < 4 or not data.startswith(b"POST /"):
            return None
        length = _CONTENT_LENGTH.search(data, 0, size - 2)
        if not length or _UNUSUAL_HEAD.search(data, 0, size - 4):
            return None
        return UsualHead(data[len("POST ") : data.find(b" ", len("POST "))], size, size + int(length[1]), None)

    def parse(self, head: UsualHead, data: bytes) -> WholeRequest | None:
        """Parse a request with this head, of which no bytes are missing; None if it is unusual after all."""
        if head.headers is not None:
            return _whole_request((head.url, head.headers, data[head.size :]))
        request = self._parse(data)
        if request is None or request.url != head.url:
            return None
        if head.size <= _MAX_KNOWN_HEAD:
            if len(self._known) >= _MAX_KNOWN:  # the oldest goes: dictionaries keep the order of insertion
                del self._known[next(iter(self._known))]
            self._known[data[: head.size]] = head._replace(headers=request.headers)
        return request

    def _parse(self, data: bytes) -> WholeRequest | None:
        urls, bodies, found = self._urls, self._bodies, self._headers
        urls.clear()
        bodies.clear()
        found.clear()
        self._open[:] = (True,)
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._renew()
            return None
        headers = dict(zip(map(_lower, found), found.values(), strict=True))
        lines = data.count(b"\n", 0, data.find(b"\r\n\r\n"))
        is_kept = headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        is_alone = not self._open and len(urls) == 1 and len(headers) == lines
        if not (is_kept and is_alone and data.startswith(b" HTTP/1.1\r\n", len("POST ") + len(urls[0]))):
            self._renew()
            return None
        return _whole_request((urls[0], headers, b"".join(bodies)))
