"""Third-party packages have upper bounds, the installed and pinned versions lie within, and uvicorn's private parts are
shaped as the gateway's connections need them.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from steadyvoice.gateway.http_server import half_close, output, protocol
from steadyvoice.gateway.http_server.protocol import ClientConnection

from .layers import ROOT

# 400 and 500 MB: installed by `make long` only, see tests/plugins/test_frameworks.py, which compares their versions.
NOT_INSTALLED = {"livekit-agents", "pipecat-ai"}

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def requirements() -> list[Requirement]:
    """Return every requirement in pyproject.toml: of the build, the package, its extras, and development."""
    lists = [
        _PROJECT["build-system"]["requires"],
        _PROJECT["project"]["dependencies"],
        *_PROJECT["project"]["optional-dependencies"].values(),
        *_PROJECT["dependency-groups"].values(),
    ]
    found = [Requirement(each) for listed in lists for each in listed if isinstance(each, str)]
    return [each for each in found if each.name != "steadyvoice"]  # an extra that brings another one


def pins() -> list[tuple[NormalizedName, str]]:
    """Return name and version of each line of constraints.txt; a package may be pinned once per Python version."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [(canonicalize_name(found[1]), found[2]) for line in lines if (found := re.match(r"([\w.-]+)==(\S+)", line))]


def upper_bound(bounds: SpecifierSet) -> str | None:
    return next((each.version for each in bounds if each.operator in ("<", "<=", "==", "~=")), None)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_third_party_package_has_an_upper_bound(requirement: Requirement) -> None:
    assert upper_bound(requirement.specifier)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_installed_version_lies_within_the_bounds(requirement: Requirement) -> None:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        assert requirement.marker or requirement.name in {"hatchling", *NOT_INSTALLED}, "not installed"
        return
    assert requirement.specifier.contains(installed, prereleases=True), installed


def test_pinned_versions_lie_within_the_bounds() -> None:
    bounds = {canonicalize_name(each.name): each.specifier for each in requirements()}
    pinned = [(name, number) for name, number in pins() if name in bounds]
    assert {name for name, _ in pinned} == set(bounds) - NOT_INSTALLED
    assert [pin for pin in pinned if not bounds[pin[0]].contains(pin[1], prereleases=True)] == []


def test_version_beyond_a_bound_is_noticed() -> None:
    bounds = next(each.specifier for each in requirements() if each.name == "uvicorn")
    beyond = upper_bound(bounds)
    assert beyond
    assert not bounds.contains(beyond)
    assert upper_bound(SpecifierSet(">=1")) is None


# uvicorn's protocol


def tree_of(thing: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def attributes_of(tree: ast.AST, *owners: str, stored: bool = False) -> set[str]:
    """Return attributes that code reads (or stores) on variables, or on `self.` attributes, of these names."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store) is stored
        and (
            (isinstance(node.value, ast.Name) and node.value.id in owners)
            or (isinstance(node.value, ast.Attribute) and node.value.attr in owners)
        )
    }


def known_to(kind: type) -> set[str]:
    """Return names of a class's methods, and of the attributes that its instances get."""
    return set(dir(kind)) | attributes_of(tree_of(kind), "self", stored=True)


OVERRIDDEN = sorted(name for name in vars(ClientConnection) if name in vars(HttpToolsProtocol) and name[:2] != "__")


def test_there_are_overridden_methods() -> None:
    assert {"_start_asgi_task", "data_received", "on_headers_complete", "on_response_complete"} <= set(OVERRIDDEN)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods_have_uvicorns_parameters(name: str) -> None:
    theirs, ours = (inspect.signature(getattr(kind, name)).parameters for kind in (HttpToolsProtocol, ClientConnection))
    assert list(theirs) == list(ours)


@pytest.mark.parametrize("name", ["_start_asgi_task", "on_response_complete"])
def test_uvicorn_calls_the_overridden_methods_that_the_parser_does_not_call(name: str) -> None:
    assert name in attributes_of(tree_of(HttpToolsProtocol), "self")


def test_attributes_of_the_protocol_are_uvicorns_or_our_own() -> None:
    used = attributes_of(tree_of(ClientConnection), "self")
    assert {"flow", "parser", "pipeline", "cycle", "transport"} <= used
    assert used - known_to(ClientConnection) - known_to(HttpToolsProtocol) == set()


def test_attributes_of_a_request_are_uvicorns() -> None:
    cycle = ("cycle", "_cycle", "_answered", "answered")
    used = set[str]().union(*(attributes_of(tree_of(each), *cycle) for each in (half_close, output, protocol, output)))
    assert {"more_body", "send", "receive", "chunked_encoding", "response_complete"} <= used
    assert used - known_to(RequestResponseCycle) == set()


def test_private_state_of_uvicorns_server_exists() -> None:
    assert {"connections", "tasks", "total_requests"} <= set(vars(ServerState()))


def test_connection_uses_uvicorns_constructor() -> None:
    assert list(inspect.signature(HttpToolsProtocol).parameters)[:3] == ["config", "server_state", "app_state"]


def test_attribute_that_uvicorn_lacks_would_be_noticed() -> None:
    tree = ast.parse("def f(cycle):\n    return cycle.more_body, cycle.gone_in_the_next_version")
    assert attributes_of(tree, "cycle") - known_to(RequestResponseCycle) == {"gone_in_the_next_version"}
