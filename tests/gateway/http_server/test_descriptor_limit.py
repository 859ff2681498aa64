"""Limit of open files, raised for the configured number of connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.http_server.listener import plan_descriptors, raise_descriptor_limit

MANY = st.integers(300, 10**7)


@given(st.integers(1, 10**6), MANY, MANY)
def test_descriptor_limit_is_raised_up_to_the_hard_limit(connections: int, soft: int, hard: int) -> None:
    hard = max(soft, hard)
    needed, fitting = plan_descriptors(connections, soft, hard)
    assert soft <= needed <= hard
    assert 1 <= fitting <= connections
    assert 2 * fitting < needed
    if fitting < connections:
        assert needed in (hard, soft)
        assert 2 * (fitting + 1) + 256 > needed


def test_some_connections_fit_on_this_machine() -> None:
    assert raise_descriptor_limit(10) == 10
