"""Dashboard in Chromium of a gateway that shares its circuits: with the other replicas of a fleet, and with workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from steadyvoice import CircuitState
from steadyvoice.breaker import CircuitBreaker
from steadyvoice.fleet import Fleet
from steadyvoice.fleet.testing import InMemoryFleet

from ..browser import CIRCUIT, GatewayThread, PageVisit, card, chromium, page_visit, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

WORKERS = [
    {"worker": 1, "pid": 4711, "state": "ready", "restarts": 0, "last_exit": None, "last_exit_at": None,
     "restart_in": None, "connections": 12},
    {"worker": 2, "pid": None, "state": "restarting", "restarts": 3, "last_exit": "killed by SIGKILL",
     "last_exit_at": "2026-11-29T10:00:00.000Z", "restart_in": 4.0, "connections": 0},
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[PageVisit]:
    with page_visit(browser) as seen:
        yield seen


def test_orders_and_settings_reach_all_replicas(visit: PageVisit) -> None:
    server = InMemoryFleet(time.monotonic)
    elsewhere = CircuitBreaker("elevenlabs", CIRCUIT)
    bodies: list[str] = []
    with (
        GatewayThread(fleet=server.connect(), circuit=CIRCUIT, clock=time.monotonic) as gateway,
        Fleet(server.connect(), [elsewhere]) as other,
    ):
        other.subscribe(lambda announcement: bodies.append(announcement.body))
        page = visit.open(gateway.url)
        panel = page.locator("#processes")
        expect(panel).to_contain_text("together with 1 other replica")
        expect(panel.locator("tbody tr").nth(1)).to_contain_text(other.replica)

        gateway.service.circuits["elevenlabs"].force_open("here only")
        expect(panel.locator("tbody tr").nth(1)).to_contain_text("elevenlabs: closed")

        act(page, "open", everywhere=True)
        until(lambda: elsewhere.state is CircuitState.FORCED_OPEN, "it has reached the other replica")
        expect(page.locator("#log")).to_contain_text("open manually at all replicas")
        expect(panel.locator("tbody tr").nth(1)).not_to_contain_text("elevenlabs: closed")
        act(page, "reset", everywhere=True)
        until(lambda: elsewhere.state is CircuitState.CLOSED, "it has reached the other replica")

        card(page).get_by_role("button", name="Settings").click()
        page.get_by_label("window_size").fill("7")
        page.get_by_label("At all replicas of the fleet").check()
        page.get_by_role("button", name="Apply").click()
        until(lambda: '{"window_size": 7}' in bodies, "it has reached the other replica")
        assert gateway.service.circuits["elevenlabs"].config.window_size == 7

        # What another replica announces is in force here.
        other.announce("settings/elevenlabs", "changed", body='{"window_size": 9}')
        until(
            lambda: gateway.service.circuits["elevenlabs"].config.window_size == 9, "it has reached the other replica"
        )
        other.announce("settings/elevenlabs", "changed", body='{"window_size": "many"}')
        other.announce("settings/elevenlabs", "changed", body="[]")
        other.announce("settings/elevenlabs", "changed", body='{"window_size": 11}')
        until(
            lambda: gateway.service.circuits["elevenlabs"].config.window_size == 11, "it has reached the other replica"
        )
        page.close()  # before the gateway, which it would ask in vain


def act(page: Page, action: str, *, everywhere: bool) -> None:
    card(page).get_by_role("button", name="Act").click()
    page.locator(f"dialog input[value={action}]").check()
    page.get_by_label("At all replicas of the fleet").set_checked(everywhere)
    page.get_by_role("button", name="Apply").click()
    page.locator("dialog").wait_for(state="detached")


def test_workers_are_listed(visit: PageVisit) -> None:
    def with_workers(route: Route) -> None:
        answer = route.fetch()
        overview = {**answer.json(), "workers": {"answered_by": 1, "revision": 3, "workers": WORKERS}}
        route.fulfill(response=answer, body=json.dumps(overview))

    with GatewayThread() as gateway:
        page = visit.open(gateway.url)
        expect(page.locator("#processes")).to_be_hidden()
        page.route("**/admin/overview*", with_workers)
        panel = page.locator("#processes")
        expect(panel).to_contain_text("2 workers on this port")
        expect(panel.locator("tbody tr").nth(0)).to_contain_text("4711")
        expect(panel.locator("tbody tr").nth(1)).to_contain_text("restarting in 4 s")
        expect(panel.locator("tbody tr").nth(1)).to_contain_text("killed by SIGKILL")
        page.unroute("**/admin/overview*")
        expect(panel).to_be_hidden()
        page.close()
