"""Types as users' type checkers see them: each file of tests/typing is checked by mypy in strict mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .layers import PACKAGE, ROOT

USERS = sorted((ROOT / "tests" / "typing").glob("*.py"))


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    # Its own configuration: a user's checker knows nothing of ours.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_user_code_passes_the_type_checker() -> None:
    assert {"breaker_api.py", "service_api.py"} <= {user.name for user in USERS}
    checked = mypy(*USERS)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("assert_type(TTSService([]).synthesize('Hi'), bytes)", 'Expression is of type "Speech", not "bytes"'),
        ("TTSService([]).synthesize('Hi', voise='anna')", 'Unexpected keyword argument "voise"'),
    ],
)
def test_wrong_type_is_reported_by_the_type_checker(tmp_path: Path, line: str, complaint: str) -> None:
    user = tmp_path / "user.py"
    user.write_text(f"from typing import assert_type\nfrom steadyvoice import TTSService\n{line}\n", "utf-8")
    checked = mypy(user)
    assert checked.returncode == 1
    assert complaint in checked.stdout


def test_package_has_a_py_typed_marker() -> None:
    assert (PACKAGE / "py.typed").is_file()
