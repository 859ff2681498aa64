"""As many connections as the process may have files open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.gateway.http_server.listener import plan_descriptors, raise_descriptor_limit

MANY = st.integers(300, 10**7)


@given(st.integers(1, 10**6), MANY, MANY)
def test_the_limit_is_raised_as_far_as_it_may_and_is_kept_to(connections: int, soft: int, hard: int) -> None:
    hard = max(soft, hard)
    needed, fitting = plan_descriptors(connections, soft, hard)
    assert soft <= needed <= hard
    assert 1 <= fitting <= connections
    assert 2 * fitting < needed
    if fitting < connections:
        assert needed in (hard, soft)
        assert 2 * (fitting + 1) + 256 > needed


def test_here_a_few_fit() -> None:
    assert raise_descriptor_limit(10) == 10
