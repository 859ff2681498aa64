"""Sign-in: the page keeps the admin token in the tab and out of URLs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from ..browser import GatewayThread, card, chromium, page_visit

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

TOKEN = "a-secret-that-nobody-sees"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def stage() -> Iterator[GatewayThread]:
    with GatewayThread(server={"admin_token": TOKEN}) as opened:
        yield opened


def test_sign_in_keeps_the_token_out_of_urls(browser: Browser, stage: GatewayThread) -> None:
    with page_visit(browser) as visitor:
        page = visitor.page
        page.goto(stage.url)
        secret = page.get_by_label("Admin token")
        expect(secret).to_be_focused()
        expect(page.locator(".card")).to_have_count(0)
        secret.fill("another")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="Invalid admin token.")).to_be_visible()
        page.get_by_label("Admin token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(card(page)).to_be_visible()

        stage.break_vendor()
        expect(card(page)).to_have_attribute("data-state", "open")
        page.get_by_role("button", name="Reset elevenlabs").click()
        expect(card(page)).to_have_attribute("data-state", "closed")
        expect(page.locator("#log")).to_contain_text("by 127.0.0.1, admin token")
        page.get_by_label("Text").fill("Hello.")
        page.get_by_role("button", name="Synthesize").click()
        expect(page.locator(".test-synthesis .account")).to_contain_text("6 characters")

        page.reload()
        expect(card(page)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Admin token")).to_be_visible()
        assert page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length") == 0
        assert page.evaluate("navigator.serviceWorker.controller") is None

        sent = visitor.requests
        assert any(request.headers.get("authorization") == f"Bearer {TOKEN}" for request in sent)
        assert not [request.url for request in sent if TOKEN in request.url or "another" in request.url]
        assert TOKEN not in page.url
        visitor.ignore_errors("401")
