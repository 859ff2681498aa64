"""API reference: every public name has a section, and every parameter a description with its unit."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator

import pytest
from api_reference import FOLDER, PublicName, public_names, render
from reference_pages import INTERNAL, PAGES, ReferencePage

MODULES = [
    "steadyvoice",
    "steadyvoice.breaker",
    "steadyvoice.breaker.testing",
    "steadyvoice.fleet",
    "steadyvoice.fleet.testing",
    "steadyvoice.providers.vendor",
    "steadyvoice.simulator",
    "steadyvoice.testing",
]

NAMES = [(page, name) for page in PAGES for name in public_names(page)]

UNITS = re.compile(
    r"\b(seconds?|bytes?|characters?|days|megabytes|words|requests?|calls?|failures?|recoveries|probes?|units?|replicas|"
    r"factor|share|rate|number|numbers|times|Hz|kbit/s|LUFS|dB|HTTP status|weights?|clock|level|offset|beats|port|"
    r"samples|utterances|records|attempts?|retr(y|ies)|fails|succeed|cooldown|limit|answers|second|speed|revision|length|recordings?)\b",
    re.IGNORECASE,
)
"""Words of a description that say what a number counts or measures."""

UNITS_BY_NAME = {
    r"(^|_)(timeout|seconds|interval|delay|period|duration|deadline)$": r"\bseconds?\b",
    r"(^|_)(retry_after|wait|now|pause)$": r"\b(seconds?|clock)\b",
    r"(^|_)cooldown$|^(start|began|ended)$": r"\bseconds?\b",
    r"_bytes$": r"\bbytes\b",
    r"characters": r"\bcharacters\b",
    r"(^|_)(share|probability|percentile)$|_jitter$": r"\bshare\b",
}
"""What the description of a number mentions, by the name of the parameter."""


@pytest.fixture(scope="module", autouse=True)
def forget_plugins() -> Iterator[None]:
    """Forget the plugins of frameworks afterwards: they were imported on top of mocks."""
    yield
    for name in ("livekit", "pipecat"):
        sys.modules.pop(f"steadyvoice.{name}", None)


def documented() -> set[str]:
    return {name.name for _, name in NAMES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.file)
def test_page_is_up_to_date(page: ReferencePage) -> None:
    assert (FOLDER / page.file).read_text("utf-8") == render(page), "make reference"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_section(module: str) -> None:
    assert set(importlib.import_module(module).__all__) - {"__version__", "actions"} <= documented()


@pytest.mark.parametrize("name", [name for _, name in NAMES], ids=lambda name: f"{name.module}.{name.name}")
def test_every_name_parameter_and_method_is_described(name: PublicName) -> None:
    parameters = [*name.parameters, *(each for method in name.methods for each in method.parameters)]
    assert name.docstring
    assert [each.name for each in parameters if not each.description] == []
    assert [method.name for method in name.methods if not method.docstring] == []
    assert [key for key, each in name.properties.items() if not inspect.getdoc(each)] == []


@pytest.mark.parametrize("name", [name for _, name in NAMES], ids=lambda name: f"{name.module}.{name.name}")
def test_every_number_has_a_unit(name: PublicName) -> None:
    parameters = [*name.parameters, *(each for method in name.methods for each in method.parameters)]
    numbers = [each for each in parameters if re.match(r"(float|int)\b", each.type) and each.name != "seed"]
    assert [f"{each.name}: {each.description}" for each in numbers if not UNITS.search(each.description)] == []


@pytest.mark.parametrize("pattern", UNITS_BY_NAME)
def test_name_of_a_number_and_its_unit_agree(pattern: str) -> None:
    numbers = [
        (name.name, each)
        for _, name in NAMES
        for each in (*name.parameters, *(each for method in name.methods for each in method.parameters))
        if re.match(r"(float|int)\b", each.type) and re.search(pattern, each.name)
    ]
    wrong = [f"{owner}: {each.name}: {each.description}" for owner, each in numbers]
    assert numbers
    assert [each for each in wrong if not re.search(UNITS_BY_NAME[pattern], each.partition(": ")[2])] == []


def test_internal_members_exist() -> None:
    for owner, members in INTERNAL.items():
        found = {
            member for _, name in NAMES for kind in _bases(name) if kind.__name__ == owner for member in vars(kind)
        }
        assert members <= found, owner


def _bases(name: PublicName) -> tuple[type, ...]:
    return name.value.__mro__ if inspect.isclass(name.value) else ()
