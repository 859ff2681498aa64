"""`steadyvoice status` in a terminal: it lives through an outage, another size, and a gateway that goes and comes."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.gateway.browser import GatewayThread

from .terminal import FIRST_SCREEN, HIDE_CURSOR, OTHER_SCREEN, SHOW_CURSOR, Terminal, terminal

CTRL_C = "\x03"


@pytest.fixture(scope="module")
def stage() -> Iterator[GatewayThread]:
    with GatewayThread() as stage:
        yield stage


@pytest.fixture
def at(stage: GatewayThread) -> GatewayThread:
    stage.heal()
    return stage


def is_as_it_was(seen: Terminal) -> bool:
    """Whether the cursor is shown, what was on the screen is there again, and keys do what they did."""
    shown = seen.all.rindex(SHOW_CURSOR) > seen.all.rindex(HIDE_CURSOR)
    left = seen.all.count(OTHER_SCREEN) == 1 and seen.all.count(FIRST_SCREEN) == 1
    return shown and left and seen.settings_now == seen.settings


def test_it_is_watched_through_an_outage(at: GatewayThread) -> None:
    with terminal("status", "--url", at.url) as seen:
        seen.until("Everybody speaks.", "elevenlabs", "openai", "● closed", without="✖")
        at.break_down()
        seen.until("Down: elevenlabs. Others speak.", "✖ open, tried in", "100%, opens at 50%", "since")
        at.heal()
        seen.until("Everybody speaks.")
        seen.type(CTRL_C)
        assert seen.ended() == 0
        assert is_as_it_was(seen)


def test_another_size_is_drawn_at_once_and_nothing_of_the_former_is_left(at: GatewayThread) -> None:
    at.break_down()
    with terminal("status", "--url", at.url, rows=40, columns=120) as seen:
        seen.until("Down: elevenlabs", "first audio")
        seen.resize(20, 60)
        narrow = seen.until("Down: elevenlabs", "✖ open")
        assert max(map(len, narrow)) == 60
        assert not any("first audio" in line for line in narrow)
        seen.resize(40, 120)
        seen.until("first audio")
        seen.type(CTRL_C)
        assert seen.ended() == 1, "something is open"
        assert is_as_it_was(seen)
        last = seen.all.rpartition(FIRST_SCREEN)[2]
        assert "Down: elevenlabs" in last, "what was seen last stays on the terminal"


def test_a_gateway_that_is_gone_is_said_to_be_and_comes_back(at: GatewayThread) -> None:
    with terminal("status", "--url", at.url) as seen:
        seen.until("Everybody speaks.")
        at.stop()
        try:
            seen.until(f"no gateway answers at {at.url}", "Trying again. Below is how it was at", "Everybody speaks.")
        finally:
            at.start()
        seen.until("Everybody speaks.", without="Trying again")
        at.break_down()
        seen.until("Down: elevenlabs")
        seen.type(CTRL_C)
        assert seen.ended() == 1


def test_left_while_nobody_answers_it_does_not_say_that_all_is_well(at: GatewayThread) -> None:
    with terminal("status", "--url", at.url) as seen:
        seen.until("Everybody speaks.")
        at.stop()
        try:
            seen.until("Trying again.")
            seen.type(CTRL_C)
            assert seen.ended() == 4
        finally:
            at.start()
        assert is_as_it_was(seen)
        assert "no gateway answers" in seen.all.rpartition(FIRST_SCREEN)[2]


def test_told_to_end_it_puts_the_terminal_in_order_first(at: GatewayThread) -> None:
    with terminal("status", "--url", at.url) as seen:
        seen.until("Everybody speaks.")
        seen.process.send_signal(signal.SIGTERM)
        assert seen.ended() == 143
        assert is_as_it_was(seen)


def test_a_terminal_that_can_only_type_is_told_once(at: GatewayThread) -> None:
    with terminal("status", "--url", at.url, TERM="dumb") as seen:
        assert seen.ended() == 0
        assert seen.all.count("Everybody speaks.") == 1
        assert "\x1b[?" not in seen.all
