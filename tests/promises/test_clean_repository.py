"""No file of the repository holds a machine's path, a registry's address or a key."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.required_tools import require_tool

from .layers import ROOT

# Put together here so that this file does not find itself.
FORBIDDEN = {
    "a machine's path": re.compile(r"(?<![\w.~-])/(?:wor" + r"k|roo" + r"t|hom" + r"e/[a-z]\w*|User" + r"s/\w+)/"),
    "a registry's address": re.compile(r"py" + r"pi\.org|files\.python" + r"hosted\.org|index" + r"-url[ =]+http"),
    # ElevenLabs' and OpenAI's; examples in tests are shorter or say so in words.
    "an API key": re.compile(
        r"\bs" + r"k[_-](?:proj-)?(?=\w*\d)[A-Za-z0-9]{32,}|\bx" + r"i-(?:api-key\W{1,6})?[A-Za-z0-9]{24,}"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIV" + r"ATE KEY"),
}


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    require_tool(listed.returncode == 0, "git, or the checkout's history,")
    yield from (ROOT / name for name in listed.stdout.split("\0") if name)


def found_in(text: str) -> list[str]:
    return [f"{what}: {hit.group()}" for what, pattern in FORBIDDEN.items() for hit in pattern.finditer(text)]


def test_no_tracked_file_holds_paths_registries_or_keys() -> None:
    read = 0
    for path in tracked():
        if path.is_file():  # a file just removed is still listed
            read += 1
            text = path.read_bytes().decode("utf-8", "replace")
            assert not (found := found_in(text)), f"{path.relative_to(ROOT)} holds {found}"
    assert read > 50


@pytest.mark.parametrize(
    "text",
    [
        'open("/wor' + 'k/main/x")',
        "cd /roo" + "t/project",
        "see /hom" + "e/anna/voice.mp3",
        "https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages/x.whl",
        "--index" + "-url https://example.com",
        "s" + "k_" + "0123456789abcdef" * 3,
        "s" + "k-proj-" + "A1b2C3d4" * 5,
        "'x" + "i-api-key': '" + "0123456789abcdef" * 2,
        "-----BEGIN PRIV" + "ATE KEY-----",
    ],
)
def test_forbidden_text_is_found(text: str) -> None:
    assert found_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "--no-emit-index" + "-url --no-annotate",
        "https://example.com/wor" + "k/order",
        "network/work" + "ers",
        "~/.cache/steadyvoice",
        "s" + "k_test",
        'api_key="s' + 'k-your-key-here"',
        "ta" + "sk_0123456789",
    ],
)
def test_similar_text_is_not_reported(text: str) -> None:
    assert not found_in(text)
