"""docs/simulator.md lists every fault, condition, setting and profile, and its scripts are valid."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from steadyvoice.simulator import SimulatorSettings, read_script
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.syntax import CONDITIONS
from steadyvoice.simulator.ledger import Ending
from steadyvoice.simulator.script import profile_names

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
ACTIONS_SECTION = PAGE.partition("\n## Fault actions\n")[2].partition("\n## ")[0]


def column(title: str) -> list[str]:
    """Return the names in the first column of the table with this heading."""
    table = re.search(rf"^\| {title} \|.*\n\|-.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table
    return [name for row in table[1].splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]


def test_every_fault_is_listed_with_its_targets() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([a-z, ]+) \| .+ \|$", ACTIONS_SECTION, re.MULTILINE))
    assert rows == {
        name: ", ".join(target.value for target in actions.FaultTarget if target in action.targets)
        for name, action in actions.ACTIONS.items()
    }


def test_every_field_of_a_fault_is_named_in_its_row() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [a-z, ]+ \| (.+) \|$", ACTIONS_SECTION, re.MULTILINE))
    missing = [
        (name, field.name)
        for name, action in actions.ACTIONS.items()
        for field in fields(action)
        if not re.search(rf"`{field.name}\b", rows[name])
    ]
    assert missing == []


def test_every_condition_setting_profile_and_ending_is_named() -> None:
    assert sorted(column("condition")) == sorted(CONDITIONS)
    assert sorted(column("setting")) == sorted(
        field.name for field in fields(SimulatorSettings) if field.name != "faults"
    )
    assert sorted(column("profile")) == profile_names()
    assert all(f"`{ending.value}`" in PAGE for ending in Ending)


def test_example_scripts_are_valid() -> None:
    scripts = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert scripts
    for script in scripts:
        assert read_script(script).faults
