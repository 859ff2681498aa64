"""Dashboard in Chromium with a live gateway in an outage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from steadyvoice import CircuitState

from ..browser import GatewayThread, PageVisit, card, chromium, page_visit, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

_WHEN_IT_SHOWS = """
  new MutationObserver(() => {
    const card = document.querySelector('[data-provider="elevenlabs"][data-state="open"]');
    if (card) window.shownAt ??= Date.now();
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] });
"""


_IN_A_TAB_BEHIND = (
    "Object.defineProperty(document, 'hidden', { get: () => true });"  # which asks every ten seconds only
)
_LOADED = """(audio) => new Promise((loaded) => {
  audio.addEventListener("loadeddata", loaded, { once: true });
  if (audio.readyState >= 2) loaded();
})"""
_WATCH_JUMPS = """() => {
  window.jumped = 0;
  const watch = new PerformanceObserver((list) => list.getEntries().forEach((each) => (window.jumped += each.value)));
  watch.observe({ type: "layout-shift" });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def stage() -> Iterator[GatewayThread]:
    with GatewayThread() as opened:
        yield opened


@pytest.fixture
def gateway(stage: GatewayThread) -> Iterator[GatewayThread]:
    yield stage
    stage.repair_vendor()


@pytest.fixture
def visit(browser: Browser) -> Iterator[PageVisit]:
    with page_visit(browser) as seen:
        yield seen


def state(gateway: GatewayThread) -> CircuitState:
    return gateway.service.circuits["elevenlabs"].state


def test_outage_is_shown_within_a_second(gateway: GatewayThread, visit: PageVisit) -> None:
    visit.page.add_init_script(_WHEN_IT_SHOWS + _IN_A_TAB_BEHIND)
    page = visit.open(gateway.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("All 3 circuits are closed")
    gateway.break_vendor()
    expect(card(page)).to_have_attribute("data-state", "open")
    late = page.evaluate("window.shownAt") - gateway.moves[-1].wall_time.timestamp() * 1000
    assert late < 1000, f"{late:.0f} ms after the transition"
    expect(page.get_by_role("heading", level=1)).to_have_text("elevenlabs is down")
    expect(page.locator("#current")).to_contain_text("answered by openai")
    expect(page.locator("#incidents")).to_contain_text("calls failed")
    expect(card(page).locator(".badge")).to_have_text("open")
    expect(page).to_have_title("(1) steadyvoice")
    expect(page.locator("#log")).to_contain_text("closed → open")


def test_countdown_counts_down_to_the_next_probe(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.break_vendor()
    page = visit.open(gateway.url)
    clock = card(page).get_by_role("timer")
    expect(clock).to_have_text(re.compile(r"^(1:00|0:5\d) until the next probe$"))
    first = clock.text_content()
    expect(clock).not_to_have_text(first or "")
    assert str(clock.text_content()) < str(first)

    page.route("**/admin/overview**", lambda route: None)  # no answer comes: the page counts by itself
    page.wait_for_timeout(1100)
    alone = clock.text_content()
    expect(clock).not_to_have_text(alone or "")
    page.unroute_all(behavior="ignoreErrors")
    gateway.clock.ahead += 61
    expect(clock).to_have_text("the next call is the probe")
    gateway.repair_vendor()
    expect(clock).to_be_hidden()


def test_reason_of_a_failed_probe_is_shown_once_and_truncation_is_marked(
    gateway: GatewayThread, visit: PageVisit
) -> None:
    gateway.break_vendor()
    page = visit.open(gateway.url)
    reason = card(page).locator(".reason")
    expect(reason).to_have_text(re.compile(r"^\d of the last \d calls failed\. Last error: HTTP 503 .*[.…]$"))
    gateway.clock.ahead += 61
    gateway.call()
    expect(reason).to_have_text(re.compile(r"^A probe failed with TTSServerError: elevenlabs: HTTP 503 [^.]*…$"))
    expect(page.locator("#incidents .reason")).to_have_text(re.compile("failed; then a probe failed with [^.]*…$"))


def test_failure_rate_is_shown_with_the_threshold(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.call()
    legend = card(visit.open(gateway.url)).locator(".caption")
    expect(legend).to_have_text("0 % of the last 1 call failed · opens at 50 %, from 2 calls")
    gateway.break_vendor()
    expect(legend).to_have_text("50 % of the last 2 calls failed · opens at 50 %")


def test_reset_closes_the_circuit_and_is_logged_with_its_author(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.break_vendor()
    page = visit.open(gateway.url)
    button = page.get_by_role("button", name="Reset elevenlabs")
    button.focus()
    page.keyboard.press("Enter")
    expect(card(page)).to_have_attribute("data-state", "closed")
    assert state(gateway) is CircuitState.CLOSED
    newest = page.locator("#log li").filter(has_text="reset manually").first
    expect(newest).to_contain_text("by 127.0.0.1, loopback")
    expect(button).to_be_focused()


def test_force_open_by_keyboard_with_reason_and_duration(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)
    page.get_by_role("button", name="Act… elevenlabs").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("radio", name="Force open")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("they announced maintenance")
    page.keyboard.press("Tab")
    page.keyboard.type("30")
    page.keyboard.press("Enter")
    expect(card(page)).to_have_attribute("data-state", "forced_open")
    expect(card(page)).to_contain_text(re.compile("they announced maintenance", re.IGNORECASE))
    expect(card(page).get_by_role("timer")).to_contain_text(re.compile(r"^(30:00|29:\d\d) until it may be probed"))
    expect(page.locator("#log")).to_contain_text("open manually for 30 min")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Act… elevenlabs")).to_be_focused()


@pytest.mark.parametrize(
    ("word", "wanted"), [("Disable", "disabled"), ("Monitor", "monitoring"), ("Close", "closed"), ("Reset", "closed")]
)
def test_other_actions(gateway: GatewayThread, visit: PageVisit, word: str, wanted: str) -> None:
    gateway.service.circuits["elevenlabs"].force_open("before")
    page = visit.open(gateway.url)
    page.get_by_role("button", name="Act… elevenlabs").click()
    page.get_by_role("radio", name=word, exact=False).check()
    page.get_by_role("button", name="Apply").click()
    expect(card(page)).to_have_attribute("data-state", wanted)
    assert state(gateway).value == wanted


def test_settings_are_previewed_applied_and_undone(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)
    circuit = gateway.service.circuits["elevenlabs"]
    before = circuit.config
    page.get_by_role("button", name="Settings… elevenlabs").click()
    dialog, apply = page.get_by_role("dialog"), page.get_by_role("button", name="Apply")
    cooldown = dialog.get_by_label("cooldown_period")
    expect(cooldown).to_have_value(f"{before.cooldown_period:g}")
    expect(dialog.get_by_label("failure_threshold")).to_have_value("0.5")
    expect(apply).to_be_disabled()

    dialog.get_by_label("failure_threshold").fill("7")
    expect(dialog.locator(".preview")).to_contain_text("failure_threshold")
    expect(apply).to_be_disabled()
    dialog.get_by_label("failure_threshold").fill("0.5")
    cooldown.fill("5")
    expect(dialog.locator(".difference")).to_have_text("cooldown_period60 → 5")
    assert circuit.config == before, "it was only looked at"
    apply.click()
    expect(dialog).to_have_count(0)
    until(lambda: circuit.config.cooldown_period == 5, "the new cooldown")

    page.locator("#notices").get_by_role("button", name="Undo").click()
    until(lambda: circuit.config == before, "the former settings")
    expect(page.locator("#log")).to_contain_text("cooldown_period 5 → 60")
    page.get_by_role("button", name="Undo for elevenlabs: cooldown_period back to 5").click()
    until(lambda: circuit.config.cooldown_period == 5, "what was undone")
    visit.ignore_errors("422")


def test_without_a_journal_the_settings_say_how_to_begin_one(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)
    page.get_by_role("button", name="Settings… elevenlabs").click()
    dialog, replay = page.get_by_role("dialog"), page.get_by_role("button", name="Replay recent calls")
    expect(replay).to_be_disabled()  # nothing is changed yet
    dialog.get_by_label("cooldown_period").fill("5")
    replay.click()
    expect(dialog.locator(".replay")).to_contain_text("No journal: with a table [journal] in the configuration file")
    visit.ignore_errors("409")


def test_settings_show_what_they_would_have_done(browser: Browser, tmp_path: Path) -> None:
    with GatewayThread(journal=tmp_path) as gateway, page_visit(browser) as visit:
        gateway.call(2)
        gateway.break_vendor()
        gateway.call(2)
        page = visit.open(gateway.url)
        page.get_by_role("button", name="Settings… elevenlabs").click()
        dialog, replay = page.get_by_role("dialog"), page.get_by_role("button", name="Replay recent calls")
        dialog.get_by_label("consecutive_failures").fill("1")
        until(lambda: gateway.service.get_error_state()["journal"]["written"] >= 20, "the journal")
        replay.click()
        rows = dialog.locator(".numbers tbody tr")
        expect(rows.first).to_have_text("Callers888", timeout=40_000)
        expect(rows.filter(has_text="Another voice")).to_have_text("Another voice666")
        expect(rows.filter(has_text="Circuits opened")).to_have_text("Circuits opened111")
        expect(rows.filter(has_text="Requests sent")).to_have_text(re.compile("Requests sent(10|11)(10|11)9"))
        # On a busy machine some calls overlap otherwise than they did; tests of the replay itself have a virtual clock.
        expect(dialog.locator(".replay")).to_contain_text(re.compile("it meets [5-8] of 8 of them"))
        assert gateway.service.circuits["elevenlabs"].config.consecutive_failures is None
        # Another change makes the numbers those of something else.
        dialog.get_by_label("consecutive_failures").fill("2")
        expect(rows).to_have_count(0)


def test_preset_as_base_of_settings(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)
    page.get_by_role("button", name="Settings… tone").click()
    page.get_by_label("Base preset").select_option("production")
    expect(page.locator(".difference")).to_contain_text("window_size4 → 20")
    page.get_by_role("button", name="Cancel").click()
    assert gateway.service.circuits["tone"].config.window_size == 4


def test_open_call_stays_open_while_others_arrive(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.break_vendor()
    page = visit.open(gateway.url)
    row = page.locator("#calls summary").first
    row.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#calls .account").first).to_contain_text("not attempted: circuit open")
    expect(page.locator("#calls .account").first).to_contain_text("openai")
    account = page.locator("#calls details[open] .account").text_content()
    gateway.call(3)
    expect(page.get_by_role("button", name=re.compile("3 newer calls"))).to_be_visible()
    assert page.locator("#calls details[open] .account").text_content() == account
    page.get_by_role("button", name=re.compile("newer calls")).click()
    expect(page.locator("#calls details[open]")).to_have_count(0)


def test_test_synthesis_shows_progress_and_plays(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)
    page.get_by_label("Text").fill("Is anybody there?")
    page.get_by_role("button", name="Synthesize").click()
    expect(page.locator(".steps")).to_contain_text("first audio from elevenlabs")
    expect(page.locator(".test-synthesis .account")).to_contain_text("spoken, first by elevenlabs: 17 characters")
    audio = page.locator(".test-synthesis audio")
    expect(audio).to_have_attribute("src", re.compile("^blob:"))
    audio.evaluate(_LOADED)  # not wait_for_function: it polls with eval, which the page's policy forbids
    assert audio.evaluate("(it) => it.duration") > 0.5


def test_page_reports_a_stopped_gateway_and_reconnects(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.break_vendor()
    page = visit.open(gateway.url)
    expect(card(page)).to_have_attribute("data-state", "open")
    heard = page.get_by_role("row", name="substituted")
    expect(heard.locator("td").last).not_to_have_text("0")
    gateway.stop()
    expect(page.locator("#banner")).to_contain_text("The gateway does not answer. Data as of")
    gateway.start()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#connection")).to_contain_text("live")
    expect(page.locator("#log")).to_contain_text("The gateway was restarted")
    expect(heard.locator("td").last).to_have_text("0")
    gateway.repair_vendor()
    expect(card(page)).to_have_attribute("data-state", "closed")
    visit.ignore_errors("ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE", "503")


def test_reconnected_event_stream_repeats_nothing(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.service.circuits["openai"].disable("before the cut")
    page = visit.open(gateway.url)
    expect(page.locator("#log").get_by_text("before the cut", exact=True)).to_have_count(1)
    gateway.run(gateway.cut_readers)
    gateway.service.circuits["openai"].force_open("while nobody listened")
    expect(page.locator("#log").get_by_text("while nobody listened", exact=True)).to_have_count(1)
    gateway.service.circuits["openai"].close("and they were let in again")
    expect(page.locator("#log").get_by_text("and they were let in again")).to_have_count(1)
    for once in ("before the cut", "while nobody listened"):
        expect(page.locator("#log").get_by_text(once, exact=True)).to_have_count(1)
    visit.ignore_errors("ERR_INCOMPLETE", "ERR_CONNECTION")


def test_no_layout_shift_during_an_outage(gateway: GatewayThread, visit: PageVisit) -> None:
    gateway.call(12)
    page = visit.open(gateway.url)
    expect(page.locator("#calls li").nth(11)).to_be_visible()
    page.evaluate(_WATCH_JUMPS)
    gateway.break_vendor()
    expect(card(page)).to_have_attribute("data-state", "open")
    gateway.call(2)
    gateway.repair_vendor()
    expect(card(page)).to_have_attribute("data-state", "closed")
    assert page.evaluate("window.jumped") < 0.005


def test_number_of_shown_entries_is_bounded(gateway: GatewayThread, visit: PageVisit) -> None:
    page = visit.open(gateway.url)

    async def flood() -> None:
        for n in range(3000):
            gateway.gateway.context.event_log.add("action", {"action": "reset", "provider": "tone", "reason": str(n)})

    gateway.run(flood)
    expect(page.locator("#log")).to_contain_text("2999")
    assert page.locator("#log li").count() <= 200
    assert page.locator("#calls li").count() <= 40


@pytest.mark.parametrize("width", [360, 2560])
def test_page_fits_its_width(gateway: GatewayThread, browser: Browser, width: int) -> None:
    gateway.break_vendor()
    with page_visit(browser, viewport={"width": width, "height": 800}) as seen:
        page = seen.open(gateway.url)
        expect(card(page)).to_have_attribute("data-state", "open")
        page.locator("#calls summary").first.click()
        assert _wide(page) <= width
        page.get_by_role("button", name="Settings… tone").click()
        page.get_by_role("dialog").wait_for()
        assert _wide(page) <= width


def _wide(page: Page) -> int:
    wide: int = page.evaluate("document.documentElement.scrollWidth")
    return wide
