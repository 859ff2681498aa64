"""`steadyvoice status` in a terminal: an outage, another size, and an unreachable gateway."""

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
def gateway(stage: GatewayThread) -> GatewayThread:
    stage.repair_vendor()
    return stage


def is_as_it_was(seen: Terminal) -> bool:
    """Return whether cursor, screen and keyboard are restored."""
    shown = seen.all.rindex(SHOW_CURSOR) > seen.all.rindex(HIDE_CURSOR)
    left = seen.all.count(OTHER_SCREEN) == 1 and seen.all.count(FIRST_SCREEN) == 1
    return shown and left and seen.settings_now == seen.settings


def test_live_view_follows_an_outage(gateway: GatewayThread) -> None:
    with terminal("status", "--url", gateway.url) as seen:
        seen.until("All providers are available.", "elevenlabs", "openai", "● closed", without="✖")
        gateway.break_vendor()
        seen.until(
            "Down: elevenlabs. Other providers are available.", "✖ open, tried in", "100%, opens at 50%", "since"
        )
        gateway.repair_vendor()
        seen.until("All providers are available.")
        seen.type(CTRL_C)
        assert seen.ended() == 0
        assert is_as_it_was(seen)


def test_resized_terminal_is_redrawn_at_once(gateway: GatewayThread) -> None:
    gateway.break_vendor()
    with terminal("status", "--url", gateway.url, rows=40, columns=120) as seen:
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


def test_unreachable_gateway_is_shown_until_it_is_back(gateway: GatewayThread) -> None:
    with terminal("status", "--url", gateway.url) as seen:
        seen.until("All providers are available.")
        gateway.stop()
        try:
            seen.until(
                f"cannot reach a gateway at {gateway.url}",
                "Retrying. Last known state, from",
                "All providers are available.",
            )
        finally:
            gateway.start()
        seen.until("All providers are available.", without="Retrying")
        gateway.break_vendor()
        seen.until("Down: elevenlabs")
        seen.type(CTRL_C)
        assert seen.ended() == 1


def test_exit_status_after_leaving_an_unreachable_gateway(gateway: GatewayThread) -> None:
    with terminal("status", "--url", gateway.url) as seen:
        seen.until("All providers are available.")
        gateway.stop()
        try:
            seen.until("Retrying.")
            seen.type(CTRL_C)
            assert seen.ended() == 4
        finally:
            gateway.start()
        assert is_as_it_was(seen)
        assert "cannot reach a gateway" in seen.all.rpartition(FIRST_SCREEN)[2]


def test_sigterm_restores_the_terminal(gateway: GatewayThread) -> None:
    with terminal("status", "--url", gateway.url) as seen:
        seen.until("All providers are available.")
        seen.process.send_signal(signal.SIGTERM)
        assert seen.ended() == 143
        assert is_as_it_was(seen)


def test_dumb_terminal_is_printed_once(gateway: GatewayThread) -> None:
    with terminal("status", "--url", gateway.url, TERM="dumb") as seen:
        assert seen.ended() == 0
        assert seen.all.count("All providers are available.") == 1
        assert "\x1b[?" not in seen.all
