"""Addresses of stores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.fleet import Fleet, FleetURLError
from steadyvoice.fleet.store_url import parse_store_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://localhost:6380/2", "redis://localhost:6380/2"),
        ("rediss://user:pw@cache.example.com", "rediss://user@cache.example.com:6379/0"),
        ("redis://:p%40ss/w@[::1]:7000/1", None),
        ("redis://:p%40ss@[::1]:7000/1", "redis://[::1]:7000/1"),
        ("redis+sentinel://a:1,b:2,c/mymaster/3", "redis+sentinel://a:1,b:2,c:26379/mymaster/3"),
        ("rediss+cluster://u:p@a:1,b:2", "rediss+cluster://u@a:1,b:2"),
    ],
)
def test_address_is_shown_without_its_password(url: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(FleetURLError) as raised:
            parse_store_url(url)
        assert "p%40ss" not in str(raised.value)
    else:
        assert str(parse_store_url(url)) == shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "no scheme"),
        ("http://localhost", "unknown scheme 'http'"),
        ("redis+raft://localhost", "unknown scheme 'redis\\+raft'"),
        ("redis://", "no host"),
        ("redis://a,b", "several hosts need"),
        ("redis://a:port", "wrong host or port"),
        ("redis://a/b", "the database must be a number"),
        ("redis://a/1/2", "the database must be a number"),
        ("redis+sentinel://a:1", "name of the service is missing"),
        ("redis+cluster://a:1/1", "no numbered databases"),
        ("rediss://a/?ssl_verify=no", "unknown option 'ssl_verify'; allowed: ssl_ca_certs"),
        ("redis://a/?ssl_ca_certs=x", "need the scheme rediss"),
        ("env:NOT_SET", "the environment variable NOT_SET is not set"),
    ],
)
def test_impossible_address_is_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(FleetURLError, match=message):
        Fleet(url)


def test_address_is_read_from_the_environment() -> None:
    parsed = parse_store_url("env:STORE", {"STORE": "redis://:secret@host/4"})
    assert (parsed.password, parsed.database) == ("secret", 4)
    assert "secret" not in repr(parsed)


@given(
    password=st.text(st.characters(codec="ascii"), min_size=8), host=st.sampled_from(["@host", "@host:1/0", "", "/1"])
)
def test_no_message_ever_shows_the_password(password: str, host: str) -> None:
    try:
        shown = str(parse_store_url(f"redis://user:{password}{host}"))
    except FleetURLError as error:
        shown = str(error)
    assert password not in shown
