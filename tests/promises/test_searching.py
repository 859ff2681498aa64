"""Searching: a simple search engine finds the modules of docs/tour.md by the words of each row."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from math import log

from .layers import PACKAGE
from .test_tour import ROWS

_COMMON_WORDS = """
a an the of and or to in on for is are its it by with from that which how what when where one as at be each has have
into no not than their them who s
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "es", "s", "ed", "ers", "er")


def words_of(text: str) -> list[str]:
    """Return the words of a text or a name, without common ones and usual endings."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text).lower()
    return [_stem(word) for word in re.findall(r"[a-z0-9]+", apart) if word not in _COMMON]


def _stem(word: str) -> str:
    ending = next((each for each in _ENDINGS if word.endswith(each) and len(word) - len(each) >= 4), "")
    return word.removesuffix(ending)


@cache
def index() -> dict[str, Counter[str]]:
    """Return the weight of each word in each module: its path and the beginning of its docstring, then its names."""
    weights: dict[str, Counter[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree, found = ast.parse(path.read_text("utf-8")), Counter[str]()
        beginning, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
        folder = path.relative_to(PACKAGE).parent.as_posix()
        for text, weight in ((path.stem, 5), (folder, 3), (beginning, 5), (rest, 1)):
            found.update(dict.fromkeys(words_of(text), weight))
        named: Counter[str] = Counter()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                named.update(set(words_of(node.name)) | set(words_of(ast.get_docstring(node) or "")))
        found.update({word: round(2 * count / (count + 2)) for word, count in named.items()})
        weights[path.relative_to(PACKAGE).as_posix()] = found
    return weights


def search(query: str) -> list[str]:
    """Return all modules, the best one first: rare words count more."""
    modules = index()
    spread = {word: sum(word in found for found in modules.values()) for word in words_of(query)}
    rarity = {word: log(len(modules) / count) for word, count in spread.items() if count}

    def score(module: str) -> float:
        return sum(modules[module][word] * rarity[word] for word in rarity)

    return sorted(modules, key=lambda module: (-score(module), module))


def test_modules_are_among_the_first_three_that_a_search_finds() -> None:
    hits = {what: search(what)[:3] for what, _, _ in ROWS}
    rows = [(what, modules) for what, modules, _ in ROWS if any(each.endswith(".py") for each in modules)]
    missed = {what: hits[what] for what, modules in rows if not set(modules) & set(hits[what])}
    assert len(rows) > 200
    assert not missed
