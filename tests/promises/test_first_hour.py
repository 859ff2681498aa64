"""Pages of the first hour: each is followed to the letter, as a newcomer would."""

from __future__ import annotations

from pathlib import Path

import pytest

from .followed_pages import Reader, Step, Stumble, free_ports, steps
from .layers import ROOT

FOLDERS = (ROOT / "docs" / "start", ROOT / "docs" / "guides")
PAGES = sorted(page for folder in FOLDERS for page in folder.glob("*.md"))
FOLLOWED = [page for page in PAGES if any(step.verb in ("follow", "terminal") for step in steps(page.read_text("utf-8")))]


@pytest.mark.slow
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_page_can_be_followed_to_the_letter(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path, ports=free_ports()).follow(page)
