"""Licences of the installed packages and of the libraries in their wheels; the bill of materials."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from tests.required_tools import release_tool

from .layers import ROOT

SCRIPT = ROOT / "deploy" / "sbom.py"
SBOM = runpy.run_path(str(SCRIPT))

VALIDATION = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))
"""


@pytest.fixture(scope="module")
def bill() -> Any:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_licences_of_all_installed_packages_are_allowed() -> None:
    assert not list(SBOM["problems"](SBOM["packages"](everything=True)))


def test_packages_under_the_gpl_are_named_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for name in SBOM["NAMED_IN_NOTICE"]:
        assert f'("{name}"' in notice


def installed(folder: Path, metadata: str, *files: str) -> Distribution:
    """Return a package with this metadata and these files."""
    info = folder / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: odd\nVersion: 1.0\n{metadata}\n")
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(file.encode())
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    return Distribution.at(info)


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT AND Zlib", "MIT AND Zlib"),
        ("License: Apache 2.0", "Apache-2.0"),
        ("License: Dual License\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("Classifier: License :: OSI Approved :: BSD License", "LicenseRef-BSD"),
        ("License: Ask the author", None),
        ("", None),
    ],
)
def test_licence_is_read_from_the_metadata(tmp_path: Path, metadata: str, licence: str | None) -> None:
    assert SBOM["licence_of"](installed(tmp_path, metadata)) == licence


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [("MIT", True), ("MIT AND GPL-3.0-only", False), ("GPL-3.0-only OR MIT", True), ("AGPL-3.0-only", False),
     ("(GPL-3.0-only OR MIT) AND GPL-2.0-only", False)],
)  # fmt: skip
def test_expression_is_allowed_if_one_alternative_is(licence: str, allowed: bool) -> None:
    assert SBOM["is_allowed"](licence, SBOM["ALLOWED"]) is allowed


def test_unknown_licences_are_reported(tmp_path: Path) -> None:
    odd = installed(
        tmp_path,
        "License-Expression: AGPL-3.0-only",
        "odd.libs/libx264-0a1b2c3d.so.165",
        "odd/libnew.so",
        "odd/mod.abi3.so",
    )
    package = SBOM["Package"]("odd", "1.0", SBOM["licence_of"](odd), (), tuple(SBOM["libraries_of"](odd)))
    assert list(SBOM["problems"]([package, SBOM["Package"]("unstated", "2.0", None)])) == [
        "odd 1.0: AGPL-3.0-only is not on the list of allowed licences",
        "odd 1.0: libx264 in it is under GPL-2.0-or-later; name the package in NOTICE",
        "odd 1.0: the licence of odd/libnew.so is unknown; find it out, and add it to deploy/sbom.py",
        "unstated 2.0: its metadata names no known licence; find it out, and add it to deploy/sbom.py",
    ]


def test_bill_names_ffmpeg_with_its_configuration_and_the_gpl_part(bill: Any) -> None:
    by_name = {each["name"]: each for each in bill["components"]}
    libraries = {each["name"]: each for each in by_name["av"]["components"]}
    properties = {each["name"]: each["value"] for each in libraries["libavcodec"]["properties"]}
    assert libraries["libavcodec"]["licenses"] == [{"expression": "LGPL-3.0-or-later"}], "as its own file states"
    assert "--enable-libx264" in properties["steadyvoice:ffmpeg-configuration"]
    assert "GPL-3.0-or-later" in properties["steadyvoice:note"]
    assert libraries["libx264"]["licenses"] == [{"expression": "GPL-2.0-or-later"}]
    assert by_name["espeakng-loader"]["licenses"] == [{"expression": "GPL-3.0-or-later"}]


def test_bill_has_what_the_project_requires_and_nothing_else(bill: Any) -> None:
    names = {each["name"] for each in bill["components"]}
    assert bill["metadata"]["component"]["name"] == "steadyvoice"
    assert {"aiohttp", "av", "msgspec", "uvicorn", "redis", "multidict"} <= names
    assert not {"pytest", "mypy", "elevenlabs", "openai"} & names
    refs = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert {each for needed in refs.values() for each in needed} <= refs.keys()
    root = bill["metadata"]["component"]["bom-ref"]
    assert any(re.match("pkg:pypi/aiohttp@", each) for each in refs[root])


def test_bill_is_valid_and_always_the_same(bill: Any) -> None:
    again = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True).stdout
    assert json.loads(again) == bill
    validated = subprocess.run([release_tool("python"), "-c", VALIDATION], input=again, capture_output=True, text=True)
    assert (validated.returncode, validated.stderr) == (0, "")
