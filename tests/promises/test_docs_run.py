"""Documentation: marked examples run, commands and options exist, links have a target."""

from __future__ import annotations

import re
import wave
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from steadyvoice.service.config_file import load_arguments

from .documentation import (
    PAGES,
    README,
    Block,
    all_blocks,
    anchors,
    blocks,
    dead_links,
    make_targets_named,
    steadyvoice_calls,
)
from .layers import ROOT
from .snippets import SETUPS, ExampleRunner, example_runner

RUNNABLE = [block for block in all_blocks() if block.runs and block.language != "toml"]
CONFIGURATIONS = [block for block in all_blocks() if block.runs and block.language == "toml"]
ENVIRONMENT = dict.fromkeys(("ELEVENLABS_API_KEY", "STEADYVOICE_API_KEY", "STEADYVOICE_ADMIN_TOKEN"), "k" * 32) | {
    "CORPORATE_PROXY": "http://proxy.example:3128",
    "STEADYVOICE_FLEET_URL": "redis://127.0.0.1:6379/0",
}


@pytest.fixture(scope="module")
def runner() -> Iterator[ExampleRunner]:
    with example_runner() as started:
        yield started


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_marked_examples_run(runner: ExampleRunner, block: Block, tmp_path: Path) -> None:
    assert block.language == "python"
    setup = SETUPS[block.mark.argument] if block.mark.argument else ""
    done = runner.run(setup + block.code, tmp_path)
    assert done.status == 0, f"{block}\n{done.printed}"


def test_readme_has_a_marked_example() -> None:
    assert "README.md" in [block.page for block in RUNNABLE]


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_marked_configurations_are_accepted(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with wave.open("sorry.wav", "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(bytes(800))
    path = tmp_path / "steadyvoice.toml"
    complete = "[[providers]]" in block.code
    path.write_text(block.code if complete else f'{block.code}\n[[providers]]\nkind = "tone"\n', "utf-8")
    assert load_arguments(path, ENVIRONMENT)["providers"]


def test_readme_begins_with_make_demo_and_make_test() -> None:
    assert make_targets_named(README.read_text("utf-8"))[:2] == ["demo", "test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert "test" in targets
    assert set(make_targets_named(page.read_text("utf-8"))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_named_exists(page: Path) -> None:
    known = options_by_command()
    for command, options in steadyvoice_calls(page.read_text("utf-8")):
        assert command in known, f"{page.name} names `steadyvoice {command}`; there is {', '.join(known)}"
        assert set(options) <= known[command], f"{page.name}: `steadyvoice {command}` takes {sorted(known[command])}"


def test_readme_shows_the_say_command() -> None:
    assert "say" in [command for command, _ in steadyvoice_calls(README.read_text("utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    assert dead_links(page) == []


def test_index_lists_every_page() -> None:
    indexes = [ROOT / "docs" / "README.md", ROOT / "docs" / "decisions" / "README.md"]
    links = [
        (index, link) for index in indexes for link in re.findall(r"\]\(([\w./-]+\.md)\)", index.read_text("utf-8"))
    ]
    listed = {(index.parent / link).resolve() for index, link in links}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= listed | {indexes[0]}


def options_by_command() -> dict[str, set[str]]:
    import typer
    from typer.core import TyperGroup

    from steadyvoice.cli.app import app

    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        name: {"--help", "-h", *(option for parameter in command.params for option in parameter.opts)}
        for name, command in group.commands.items()
    }


# The parser itself, on a page that has one of each.
PAGE = dedent("""\
    # A page

    <!-- runs -->
    ```python
    print("hello")
    ```

    ```python
    print(not_run)
    ```

    ```sh
    make PYTHON=python3.13 demo   # make tea
    $ .venv/bin/steadyvoice say "make haste" -o a.mp3 && steadyvoice status --json | jq .
    echo hi | steadyvoice say - --format=wav > a.wav
    ```

    Indented:

        make lint
        uv pip compile --all \\
          --steadyvoice

    The end: `make nothing`.
    """)


def test_page_parser_finds_blocks_commands_and_targets() -> None:
    assert [(block.line, block.language, block.runs) for block in blocks("p", PAGE)] == [
        (4, "python", True),
        (8, "python", False),
        (12, "sh", False),
    ]
    assert make_targets_named(PAGE) == ["demo", "lint"]
    assert steadyvoice_calls(PAGE) == [("say", ["-o"]), ("status", ["--json"]), ("say", ["--format"])]


def test_anchors_are_those_of_github() -> None:
    page = "# The `say` command\n\n## Sizes, in [bytes](x.md)\n\n```sh\n# a comment\n```\n\n## Notes\n\n## Notes\n"
    assert anchors(page) == {"the-say-command", "sizes-in-bytes", "notes", "notes-1"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
        ("import urllib.request; urllib.request.urlopen('http://example.com')", "needs the network: example.com"),
        ("import os; print(os.environ['OPENAI_API_KEY'])", "KeyError"),
        ("open('README.md')", "FileNotFoundError"),
        ("await missing()", "NameError"),
    ],
)
def test_failing_example_is_reported(
    runner: ExampleRunner, code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    done = runner.run(code, tmp_path)
    assert done.status != 0
    assert message in done.printed
