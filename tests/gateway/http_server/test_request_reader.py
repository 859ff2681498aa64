"""Request reader of the fast lane: whole usual requests are read as they were sent, and all others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.fast_lane.request_reader import RequestReader, WholeRequest

BODY = b'{"text": "Hello"}'
USUAL = [("Host", "localhost"), ("Content-Type", "application/json"), ("X-Request-Id", "one")]

names = st.text("abcdefghijklmnopqrstuvwxyzABC-", min_size=1, max_size=8).map("x".__add__)
values = st.text("abc 123/;=,", max_size=12).map(str.strip)


def request(*headers: tuple[str, str], line: str = "POST /v1/speech HTTP/1.1", body: bytes = BODY) -> bytes:
    lines = [line, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def read(reader: RequestReader, data: bytes) -> WholeRequest | None:
    head = reader.find_head(data)
    return reader.parse(head, data) if head and head.whole == len(data) else None


@given(st.lists(st.lists(st.tuples(names, values), max_size=4), max_size=4))
def test_requests_without_repeated_headers_are_read_as_they_were_sent(heads: list[list[tuple[str, str]]]) -> None:
    reader = RequestReader()
    for headers in heads:
        data = request(*USUAL, *headers)
        sent = {name.lower().encode(): value.encode() for name, value in (*USUAL, *headers)}
        found = read(reader, data)
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
    assert read(reader, request(*USUAL))
    assert not read(reader, data)
    assert read(reader, request(*USUAL))


@given(st.integers(0, len(request(*USUAL))))
def test_beginning_of_a_request_tells_how_much_is_missing(size: int) -> None:
    data = request(*USUAL)
    head = RequestReader().find_head(data[:size])
    assert (head and head.whole) == (len(data) if size >= data.index(BODY) else None)


@given(st.lists(st.tuples(names, values), max_size=4), st.lists(st.binary(max_size=20), min_size=2, max_size=5))
def test_head_that_is_known_reads_as_by_a_new_reader(headers: list[tuple[str, str]], bodies: list[bytes]) -> None:
    reader = RequestReader()
    for body in bodies * 2:
        data = request(*USUAL, *headers, body=body)
        assert read(reader, data) == read(RequestReader(), data)


def test_known_head_does_not_end_a_body_later_or_sooner() -> None:
    reader, data = RequestReader(), request(*USUAL)
    assert read(reader, data)
    assert read(reader, data + b"POST") is None
    assert read(reader, data[:-1]) is None
    other = read(reader, data[:-1] + b"]")
    assert other is not None
    assert other.body == BODY[:-1] + b"]"


def test_number_of_known_heads_is_limited() -> None:
    reader = RequestReader()
    first = request(("X-Request-Id", "first"))
    read(reader, first)
    for number in range(600):
        read(reader, request(("X-Request-Id", str(number))))
    head = reader.find_head(request(("X-Request-Id", "599")))
    assert head
    assert head.headers is not None
    head = reader.find_head(first)
    assert head
    assert head.headers is None
    long = request(("X-Trace", "a" * 3000))
    assert read(reader, long)
    head = reader.find_head(long)
    assert head
    assert head.headers is None
