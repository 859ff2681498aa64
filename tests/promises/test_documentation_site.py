"""Documentation site: a crawl finds no broken link, and its search works in a browser from the disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

from tests.gateway.browser import chromium

from .documentation import PAGES
from .layers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

BUILDER = ROOT / "docs" / "builder" / "build_site.py"
NO_TARGET = {"search.html"}  # of no link: the form of each page leads there


@dataclass
class ParsedPage(HTMLParser):
    """Anchors, links and resources of an HTML page; `navigation` has the links of the menu of all pages."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    navigation: list[str] = field(default_factory=list)
    in_menu: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self.in_menu = (self.in_menu or "sidebar-tree" in given.get("class", "")) and tag != "article"
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            if self.in_menu:
                self.navigation.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.resources.append(given["href"])
        elif "src" in given:
            self.resources.append(given["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site. Sphinx's warnings are errors."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    built = subprocess.run([sys.executable, BUILDER, folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, ParsedPage]:
    """Parse all HTML pages of the site."""
    found = {}
    for path in site.rglob("*.html"):
        found[path] = parsed = ParsedPage()
        parsed.feed(path.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def target(page: Path, link: str) -> tuple[Path, str]:
    """Return the file and the anchor that a link of a page leads to."""
    address = urlsplit(link)
    return (page.parent / unquote(address.path)).resolve() if address.path else page, unquote(address.fragment)


def is_local(link: str) -> bool:
    return not urlsplit(link).scheme and not urlsplit(link).netloc


def test_every_page_of_the_repository_is_in_the_site(pages: dict[Path, ParsedPage]) -> None:
    assert len(pages) > len(PAGES)


def test_every_link_of_the_site_leads_to_a_page_and_an_anchor(pages: dict[Path, ParsedPage]) -> None:
    broken = []
    for page, parsed in pages.items():
        for link in filter(is_local, parsed.links):
            path, anchor = target(page, link)
            if not path.is_file() or (anchor and path in pages and anchor not in pages[path].anchors):
                broken.append(f"{page.name}: {link}")
    assert broken == []


def test_every_resource_of_the_site_is_local(pages: dict[Path, ParsedPage], site: Path) -> None:
    loaded = {(page, resource) for page, parsed in pages.items() for resource in parsed.resources}
    assert [resource for page, resource in loaded if not is_local(resource)] == []
    missing = [resource for page, resource in loaded if not target(page, resource)[0].is_file()]
    assert missing == []
    assert not any("@import" in style.read_text("utf-8") for style in site.rglob("*.css"))


def test_every_page_of_the_site_is_in_its_navigation_or_an_index(pages: dict[Path, ParsedPage], site: Path) -> None:
    home = site / "index.html"
    listed = {target(home, link)[0] for link in pages[home].navigation}
    for index in ("decisions/index.html", "files/index.html"):
        assert site / index in listed
        listed |= {target(site / index, link)[0] for link in pages[site / index].links if is_local(link)}
    assert {page.relative_to(site).as_posix() for page in set(pages) - listed - {home}} == NO_TARGET


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cooldown", "Circuit breaker"),
        ("first_audio_timeout", "Timeouts"),
        ("coalescing", "Cache"),
    ],
)
def test_search_finds_a_page_from_the_disk(site: Path, browser: Browser, words: str, expected: str) -> None:
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto((site / "index.html").as_uri())
    box = page.get_by_placeholder("Search")
    box.fill(words)
    box.press("Enter")
    page.get_by_role("main").get_by_role("link", name=expected).first.wait_for()
    assert [url for url in requested if not url.startswith("file:")] == []
    page.close()


def test_no_page_is_wider_than_a_phone(pages: dict[Path, ParsedPage], site: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    wide = []
    for path in sorted(path for path in pages if path.parent.name not in ("decisions", "plugins")):
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(path.relative_to(site).as_posix())
    page.close()
    assert wide == []


def test_linked_file_is_shown(site: Path) -> None:
    assert "AgentSession" in (site / "files" / "examples" / "livekit_agent.py.html").read_text("utf-8")
