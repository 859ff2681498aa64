"""Pages of the first hour: each is followed to the letter, as a newcomer would; tables of migrations are complete."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import circuitbreaker
import pybreaker
import pytest

from steadyvoice.service.config_file import load_arguments

from .documentation import Block, blocks
from .followed_pages import PageFollower, Step, Stumble, free_ports, steps
from .layers import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*(DOCS / "start").glob("*.md"), *(DOCS / "guides").glob("*.md")])
BLOCKS = [block for page in PAGES for block in blocks(page.stem, page.read_text("utf-8"))]


def followed(text: str) -> list[Step]:
    """Return the steps that need nothing that is not in this environment."""
    found = list(steps(text))
    needs = [index for index, step in enumerate(found) if step.verb == "needs"]
    return found[: needs[0]] if needs else found


FOLLOWED = [
    page for page in PAGES if any(step.verb in ("follow", "terminal") for step in followed(page.read_text("utf-8")))
]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_page_can_be_followed_to_the_letter(page: Path, tmp_path: Path) -> None:
    PageFollower(tmp_path, ports=free_ports()).follow(page)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed_in_an_empty_environment(page: Path, tmp_path: Path) -> None:
    PageFollower(tmp_path, ports=free_ports(), checkout=ROOT).follow(page)


def test_documentation_begins_with_the_pages_of_the_first_hour() -> None:
    index = (DOCS / "README.md").read_text("utf-8")

    assert [page for page in PAGES if f"({page.relative_to(DOCS).as_posix()})" not in index] == []
    assert index.index("start/library.md") < index.index("configuration.md")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_program_of_a_page_is_valid_and_imports_what_exists(block: Block) -> None:
    for module, name in imports_of_ours(ast.parse(block.code)):
        # The plugins can be imported with their frameworks only; tests/plugins runs them.
        if module not in ("steadyvoice.livekit", "steadyvoice.pipecat"):
            assert hasattr(import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_configuration_of_a_page_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "steadyvoice.toml"
    path.write_text(block.code, "utf-8")
    assert load_arguments(path, {})["providers"]


def imports_of_ours(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that a program imports from the package, with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steadyvoice"):
            yield from ((node.module or "", alias.name) for alias in node.names)


def names_in_first_column(page: Path) -> set[str]:
    """Return the words set as code in the first column of a page's tables."""
    cells = re.findall(r"^\| (.+?) \|", page.read_text("utf-8"), re.MULTILINE)
    return {word for cell in cells for code in re.findall(r"`([^`]+)`", cell) for word in re.findall(r"\w+", code)}


def public_names(*classes: type) -> set[str]:
    """Return the public names of classes and the parameters of their constructors."""
    own = {name for each in classes for name in vars(each) if not name.startswith("_")}
    parameters = {name for each in classes for name in inspect.signature(each).parameters}
    return own | parameters | {each.__name__ for each in classes}


def test_everything_of_pybreaker_has_a_row() -> None:
    public = public_names(pybreaker.CircuitBreaker, pybreaker.CircuitBreakerListener, pybreaker.CircuitRedisStorage)
    # How the storage works inside is no business of an application's.
    storage = set(vars(pybreaker.CircuitRedisStorage)) - {"__init__"}
    expected = public - storage | set(pybreaker.__all__) - {"STATE_OPEN", "STATE_HALF_OPEN"}

    named = names_in_first_column(DOCS / "guides" / "migrate-pybreaker.md")
    assert expected - named - {"CircuitBreaker"} == set()
    assert len(expected) > 35


def test_everything_of_circuitbreaker_has_a_row() -> None:
    public = public_names(circuitbreaker.CircuitBreaker, circuitbreaker.CircuitBreakerMonitor)
    parameters = set(inspect.signature(circuitbreaker.circuit).parameters)
    expected = public | parameters | {"CircuitBreakerError", "circuit"}

    named = names_in_first_column(DOCS / "guides" / "migrate-circuitbreaker.md")
    assert expected - named - {"circuit_breakers", "CircuitBreaker"} == set()
    assert len(expected) > 30


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- follow -->\n```sh\nfalse\n```\n", "p.md:1: exit status 1"),
        ("<!-- follow -->\n```sh\necho one\n```\n\n<!-- prints -->\n```text\ntwo\n```\n", "p.md:6: not printed: two"),
        ("<!-- terminal: server -->\n```sh\necho nothing\n```\n", "p.md:1: echo nothing does not listen"),
    ],
)
def test_step_that_does_not_do_what_the_page_says_is_found(page: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text(page, "utf-8")
    with pytest.raises(Stumble) as found:
        PageFollower(tmp_path).follow(tmp_path / "p.md")
    assert message in str(found.value)


def test_files_folders_and_variables_last_from_step_to_step(tmp_path: Path) -> None:
    page = """
<!-- follow -->
```sh
mkdir inside && cd inside
export WORD=seven
```

<!-- file: word.sh -->
```sh
echo "$WORD and 8040"
```

<!-- follow -->
```sh
sh word.sh
```

<!-- prints -->
```text
sev... and 9999
```

<!-- install -->
```sh
false
```

<!-- needs: no_such_package.at_all -->

<!-- follow -->
```sh
false
```
"""
    (tmp_path / "p.md").write_text(page, "utf-8")
    PageFollower(tmp_path, ports={"8040": "9999"}).follow(tmp_path / "p.md")
    assert (tmp_path / "inside" / "word.sh").exists()
