"""Layers of the package, and its imports, read from the source without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "steadyvoice"

LAYERS = {
    "_version": -1,
    "_extras": -1,
    "_option_rules": -1,
    "breaker": 0,
    "speech": 0,
    "wire": 1,
    "audio": 1,
    "fleet": 2,
    "providers": 2,
    "service": 3,
    "gateway": 4,
    "livekit": 4,
    "pipecat": 4,
    "simulator": 4,
    "testing": 4,
    "cli": 5,
    "__main__": 6,
}
PACKAGE_ROOT = "__init__"  # the package itself: it may import anything, and no module inside may import it


@dataclass(frozen=True, slots=True)
class Import:
    """Import of a module by a module of the package."""

    importer: str  # "service.plan"
    imported: str  # "steadyvoice.speech.text" or "json"
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@cache
def all_imports() -> Sequence[Import]:
    """Return every import in the package, wherever in a file it is."""
    return [
        found
        for path in sorted(PACKAGE.rglob("*.py"))
        for found in imports_of(_module_name(path), path.read_text("utf-8"))
    ]


def imports_of(module: str, source: str) -> Iterator[Import]:
    """Yield a module's imports. `module` is its name below the package, with `.__init__` for a package's own file."""
    around = f"steadyvoice.{module}".rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                for alias in names:
                    yield Import(module, alias.name, node.lineno)
            case ast.ImportFrom(of, names, level):
                origin = resolve_name("." * level + (of or ""), around) if level else of or ""
                for alias in names:
                    # With the name, for it may be a module: `from steadyvoice import speech`.
                    yield Import(module, f"{origin}.{alias.name}", node.lineno)
            case ast.Call(ast.Name("import_module") | ast.Attribute(attr="import_module"), [ast.Constant(str(name))]):
                yield Import(module, name, node.lineno)


def violation(found: Import) -> str | None:
    """Return why an import breaks the rules of the layers, None if it does not."""
    importer, imported = top_package(found.importer), _imported_package(found.imported)
    if importer == PACKAGE_ROOT or imported in (None, importer):
        return None
    if importer not in LAYERS:
        return f"{found}: no layer is known for {importer!r}; add it to LAYERS"
    if imported not in LAYERS:
        return f"{found}: a module inside imports the package itself; import from the module that defines the name"
    if LAYERS[imported] > LAYERS[importer]:
        return f"{found}: upward, from layer {LAYERS[importer]} to layer {LAYERS[imported]}"
    if LAYERS[imported] == LAYERS[importer]:
        return f"{found}: sideways, within layer {LAYERS[importer]}"
    return None


def sub_packages(found: Import) -> tuple[str, str] | None:
    """Return the sub-packages of one package between which an import goes, such as `service.pipeline`, or None."""
    importer, imported = _folder(found.importer), _folder(found.imported.removeprefix("steadyvoice."))
    siblings = importer.rpartition(".")[0] == imported.rpartition(".")[0] != ""
    return (importer, imported) if siblings and importer != imported else None


def is_third_party(found: Import) -> bool:
    """Return whether an import is neither of this package nor of the standard library."""
    return found.imported.partition(".")[0] not in {"steadyvoice", *sys.stdlib_module_names}


def top_package(module: str) -> str:
    """Return the first part of a module's name."""
    return module.partition(".")[0]


def _imported_package(imported: str) -> str | None:
    """Return the top-level package of an absolute name; PACKAGE_ROOT for names of the package itself."""
    package, _, rest = imported.partition(".")
    if package != "steadyvoice":
        return None
    first = top_package(rest)
    is_package = first in LAYERS or (first and (PACKAGE / first).is_dir())
    return first if is_package else PACKAGE_ROOT


def _folder(name: str) -> str:
    """Return the innermost package of a dotted name below the package."""
    while name and not (PACKAGE / name.replace(".", "/") / "__init__.py").is_file():
        name = name.rpartition(".")[0]
    return name


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
