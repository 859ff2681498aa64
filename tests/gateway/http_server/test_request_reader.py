"""Request reader of the fast lane: whole usual requests are read as they were sent, and all others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.fast_lane.request_reader import RequestReader

BODY = b'{"text": "Hello"}'
USUAL = [("Host", "localhost"), ("Content-Type", "application/json"), ("X-Request-Id", "one")]

names = st.text("abcdefghijklmnopqrstuvwxyzABC-", min_size=1, max_size=8).map("x".__add__)
values = st.text("abc 123/;=,", max_size=12).map(str.strip)


def request(*headers: tuple[str, str], line: str = "POST /v1/speech HTTP/1.1", body: bytes = BODY) -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def is_usual(reader: RequestReader, data: bytes) -> bool:
    return reader.bytes_missing(data) == 0 and reader.parse(data) is not None


@given(st.lists(st.lists(st.tuples(names, values), max_size=4), max_size=4))
def test_requests_without_repeated_headers_are_read_as_they_were_sent(heads: list[list[tuple[str, str]]]) -> None:
    reader = RequestReader()
    for headers in heads:
        data = request(*USUAL, *headers)
        sent = {name.lower().encode(): value.encode() for name, value in (*USUAL, *headers)}
        found = reader.parse(data) if reader.bytes_missing(data) == 0 else None
        if len(sent) < len(USUAL) + len(headers):
            assert found is None
        else:
            assert found is not None
            assert (found.url, found.body) == (b"/v1/speech", BODY)
            assert found.headers == {**sent, b"content-length": str(len(BODY)).encode()}


@pytest.mark.parametrize(
    "data",
    [
        request(("Connection", "close")),
        request(("Host", "a"), ("host", "b")),
        request(("Content-Length", "3")),
        request(("Transfer-Encoding", "chunked")),
        request(("Expect", "100-continue")),
        request(("Origin", "http://localhost")),
        request(("Upgrade", "websocket"), ("Connection", "upgrade")),
        request(("folded", "a\r\n b")),
        request(line="POST /v1/speech HTTP/1.0"),
        request(line="PUT /v1/speech HTTP/1.1"),
        request(line="POST http://localhost/v1/speech HTTP/1.1"),
        request() + b"POST",
        request() * 2,
        request().replace(b"\r\n", b"\n"),
        request(line="POST /v1/speech HTTP/1.1\r\nhost x"),
    ],
)
def test_unusual_request_is_refused_and_the_next_one_is_read(data: bytes) -> None:
    reader = RequestReader()
    assert is_usual(reader, request(*USUAL))
    assert not is_usual(reader, data)
    assert is_usual(reader, request(*USUAL))


@given(st.integers(0, len(request(*USUAL))))
def test_beginning_of_a_request_tells_how_much_is_missing(size: int) -> None:
    data = request(*USUAL)
    missing = RequestReader().bytes_missing(data[:size])
    assert missing == (len(data) - size if size >= data.index(BODY) else None)
