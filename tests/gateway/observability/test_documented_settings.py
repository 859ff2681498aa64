"""docs/gateway.md: every key and every door of the gateway stands there."""

from __future__ import annotations

import re
from pathlib import Path

from steadyvoice.service.config_file import ServerConfig

PAGE = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text(encoding="utf-8")


def test_every_key_of_the_servers_table_is_told_and_no_other() -> None:
    table = PAGE.partition("| key | usual |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(ServerConfig.model_fields)
