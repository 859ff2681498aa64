"""Modules import each other in one direction only, imports for type checkers included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter

from .layers import PACKAGE, all_imports


def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module imports, by their names below the package."""
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    } - {"__init__"}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for found in all_imports():
        importer = found.importer.removesuffix(".__init__")
        imported = found.imported.removeprefix("steadyvoice.")
        module = imported if imported in names else imported.rpartition(".")[0]
        if importer in names and module in names and found.imported.startswith("steadyvoice."):
            graph[importer].add(module)
    return {name: imported - {name} for name, imported in graph.items()}


def cycles(graph: Mapping[str, Iterable[str]]) -> set[frozenset[str]]:
    """Return the groups of modules that import each other, directly or by way of others."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return {group for group in groups if len(group) > 1}


def _reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    seen, ahead = set[str](), [start]
    while ahead:
        for name in graph[ahead.pop()]:
            if name not in seen:
                seen.add(name)
                ahead.append(name)
    return seen


def test_modules_import_each_other_without_cycles() -> None:
    graph = import_graph()
    assert len(graph) > 150
    assert cycles(graph) == set()


def test_modules_have_an_order_from_the_lowest_to_the_highest() -> None:
    order = list(TopologicalSorter(import_graph()).static_order())
    assert order.index("speech.format") < order.index("service.service") < order.index("cli.app")


def test_cycle_is_found_however_long_it_is() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"], "e": []}
    assert cycles(graph) == {frozenset("abc")}
    assert cycles(graph | {"c": ["d"]}) == set()
    assert cycles(graph | {"e": ["d"]}) == {frozenset("abc"), frozenset("de")}
