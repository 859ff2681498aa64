"""Releases: the workflow is linted and grants little, and the check of the version finds every disagreement."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.required_tools import release_tool

from .layers import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
CHECK = ROOT / "deploy" / "check_release.py"
CHECKED = ("src/steadyvoice/_version.py", "deploy/helm/steadyvoice/Chart.yaml", "CHANGELOG.md")


@pytest.fixture
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]
    return found


@pytest.mark.parametrize("command", [["actionlint"], ["zizmor", "--offline", "--persona=pedantic", "--quiet"]], ids=str)
def test_linters_accept_the_workflow(command: list[str]) -> None:
    order = [release_tool(command[0]), *command[1:], str(WORKFLOW)]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_by_commit_and_name_their_tag() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW.read_text("utf-8"))
    assert len(used) > 8
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used)


def test_what_is_published_was_tested_and_only_the_publisher_can_publish(jobs: dict[str, Any]) -> None:
    assert jobs["build"]["needs"] == "check"
    assert jobs["publish"]["needs"] == jobs["image"]["needs"] == "build"
    assert yaml.safe_load(WORKFLOW.read_text("utf-8"))["permissions"] == {}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets" not in str(jobs["publish"]), "trusted publishing needs none"
    assert jobs["publish"]["environment"] == jobs["image"]["environment"] == "release"
    assert not [step for step in jobs["publish"]["steps"] if "run" in step], "no code of ours runs beside the token"


def test_commands_of_the_workflow_exist(jobs: dict[str, Any]) -> None:
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets)
        elif words[0] in ("python3", "bash"):
            assert (ROOT / words[1]).exists()


def checked(root: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(CHECK), "--root", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a copy of the files that are checked, as they are at a release of 9.8.7."""
    for name in CHECKED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    version = tmp_path / CHECKED[0]
    version.write_text(re.sub(r'"[\d.]+"', '"9.8.7"', version.read_text()))
    chart = tmp_path / CHECKED[1]
    chart.write_text(re.sub(r"(?m)^(version|appVersion): .*", r"\1: 9.8.7", chart.read_text()))
    (tmp_path / CHECKED[2]).write_text(
        "# Changelog\n\n## 9.8.7 (2026-12-01)\n\n- News.\n\n## 9.8.6 (2026-11-01)\n\n- Old.\n"
    )
    return tmp_path


def test_repository_agrees_on_its_version() -> None:
    assert checked(ROOT) == (0, "")


def test_release_is_accepted_and_has_its_notes(root: Path) -> None:
    assert checked(root, "v9.8.7", "--notes", str(root / "notes")) == (0, "")
    assert (root / "notes").read_text() == "- News.\n"


@pytest.mark.parametrize(
    ("file", "text", "instead", "complaint"),
    [
        (0, "9.8.7", "9.8", "'9.8' is not a version"),
        (0, "9.8.7", "9.9.0", "the tag v9.8.7 is not v9.9.0"),
        (1, "appVersion: 9.8.7", "appVersion: 9.8.6", "appVersion is not 9.8.7"),
        (1, "\nversion: 9.8.7", "\nversion: 9.8.6", "version is not 9.8.7"),
        (2, "(2026-12-01)", "(unreleased)", "9.8.7 has no date"),
        (2, "(2026-12-01)", "(2026-13-01)", "9.8.7 has no date"),
        (2, "- News.\n", "", "the section of 9.8.7 is empty"),
        (2, "## 9.8.7", "## 9.8.8", "the first section is not ## 9.8.7"),
        (2, "## 9.8.6", "## 9.8.10", "9.8.10 stands behind 9.8.7, which is not newer"),
        (2, "(2026-11-01)", "(unreleased)", "9.8.6 has no date"),
    ],
)
def test_disagreement_is_named(root: Path, file: int, text: str, instead: str, complaint: str) -> None:
    path = root / CHECKED[file]
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, instead, 1))
    status, errors = checked(root, "v9.8.7")
    assert status == 1
    assert complaint in errors
