"""Accessibility of the dashboard: axe finds no violations, in normal operation and in an outage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.npm_packages import install_npm_packages

from ..browser import GatewayThread, card, chromium, page_visit

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

_RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> str:
    folder = install_npm_packages(Path(__file__).parent / "axe" / "package.json", pytestconfig.cache.mkdir("axe"))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module")
def browser(axe: str) -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def calm() -> Iterator[GatewayThread]:
    with GatewayThread() as stage:
        stage.call(3)
        yield stage


@pytest.fixture(scope="module")
def outage() -> Iterator[GatewayThread]:
    with GatewayThread() as stage:
        stage.call(2)
        stage.break_vendor()
        stage.service.circuits["openai"].force_open("their maintenance", 600)
        stage.service.circuits["tone"].monitor("only watched")
        yield stage


def violations(page: Page, axe: str) -> list[Any]:
    """Violations that axe finds. The script is injected past the page's policy, which forbids it."""
    page.evaluate(axe)
    found = page.evaluate("(rules) => axe.run(document, rules)", _RULES)
    return [(each["id"], [node["failureSummary"] for node in each["nodes"][:4]]) for each in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("when", ["calm", "outage"])
def test_axe_finds_no_violations(
    request: pytest.FixtureRequest, browser: Browser, axe: str, when: str, scheme: str, width: int
) -> None:
    stage: GatewayThread = request.getfixturevalue(when)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
    with page_visit(browser, **options) as visitor:
        page = visitor.open(stage.url)
        page.locator("#calls summary").first.click()
        assert violations(page, axe) == []
        if when == "outage":
            return  # the dialogs are the same in it
        page.get_by_role("button", name="Act… tone").click()
        assert violations(page, axe) == []
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Settings… tone").click()
        page.get_by_label("cooldown_period").fill("9")
        page.locator(".difference").wait_for()
        assert violations(page, axe) == []


def test_every_state_has_its_own_name_and_icon(browser: Browser, outage: GatewayThread) -> None:
    with page_visit(browser) as visitor:
        page = visitor.open(outage.url)
        badges = {name: card(page, name).locator(".badge") for name in ("elevenlabs", "openai", "tone")}
        expect(badges["elevenlabs"]).to_have_text("open")
        expect(badges["openai"]).to_have_text("forced open")
        expect(badges["tone"]).to_have_text("monitoring")
        drawn = {badge.locator("svg > *").evaluate("(it) => it.outerHTML") for badge in badges.values()}
        assert len(drawn) == 3


def test_reduced_motion_is_respected(browser: Browser, outage: GatewayThread) -> None:
    with page_visit(browser, reduced_motion="reduce") as visitor:
        page = visitor.open(outage.url)
        moving = "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration !== '0s')"
        assert page.evaluate(f"{moving}.length") == 0
