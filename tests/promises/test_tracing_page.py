"""Page on traces: it lists every name, and shows what the example prints."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields

from steadyvoice import TelemetryConfig
from steadyvoice.service.config_file import TelemetryTable
from steadyvoice.service.telemetry import attributes

from .layers import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "tracing.md").read_text("utf-8")


def test_page_lists_every_name() -> None:
    names = {value for name, value in vars(attributes).items() if name.isupper()}
    assert {name for name in names if f"`{name}" not in PAGE} == set()


def test_names_are_written_in_one_module() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path.stem != "attributes"]
    written = re.compile(r"""["'](gen_ai|steadyvoice\.(attempt|circuit|switch|characters))\.""")
    assert [path.name for path in others if written.search(path.read_text("utf-8"))] == []


def test_page_shows_what_the_example_prints() -> None:
    example = [sys.executable, "-W", "error", str(ROOT / "examples" / "trace_outage.py")]
    ran = subprocess.run(example, capture_output=True, text=True, timeout=50, check=True)
    assert ran.stdout in PAGE


def test_page_lists_the_fields_of_the_configuration() -> None:
    for name in (*(field.name for field in fields(TelemetryConfig)), *TelemetryTable.model_fields):
        assert f"| `{name}` |" in PAGE
