"""Extras: each part of the package needs only what its extra installs, and says which command installs the rest."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from steadyvoice._extras import MissingExtraError, is_installed, require

from .layers import ROOT, Import, all_imports, is_third_party, top_package

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
ALL_BUT = {"neural", "livekit", "pipecat"}

# Extras that a part may use; all of `[audio]` and `[gateway]` are installed where a part belongs to them.
PARTS = {
    "breaker": set[str](),
    "speech": set[str](),
    "_extras": set[str](),
    "_option_rules": set[str](),
    "_version": set[str](),
    "__init__": set[str](),
    "fleet": {"fleet"},
    "audio": {"audio"},
    "wire": {"audio"},
    "providers": {"audio", "google", "local", "neural", "polly"},
    "service": {"audio", "otel"},
    "testing": {"audio"},
    "simulator": {"audio", "tls"},
    "livekit": {"audio", "livekit"},
    "pipecat": {"audio", "pipecat"},
    "gateway": {"gateway", "otel"},
    "cli": {"gateway"},
    "__main__": {"gateway"},
}


@cache
def packages(extra: str) -> frozenset[str]:
    """Return the distributions that an extra names, with those of the extras that it brings."""
    found: set[str] = set()
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == "steadyvoice":
            found |= {each for brought in requirement.extras for each in packages(brought)}
        else:
            found.add(canonicalize_name(requirement.name))
    return frozenset(found)


# Modules of packages that are not installed here, and of packages that another one brings and has in its interface.
BROUGHT_BY = {
    "livekit": ["livekit-agents"],
    "loguru": ["pipecat-ai"],
    "multidict": ["aiohttp"],
    "pipecat": ["pipecat-ai"],
    "pydantic_core": ["pydantic"],
    "yarl": ["aiohttp"],
}


def distributions_of(module: str) -> set[str]:
    """Return the distributions that hold a module; its own name where none is installed."""
    top = module.partition(".")[0]
    return {canonicalize_name(each) for each in BROUGHT_BY.get(top) or installed().get(top, [top])}


@cache
def installed() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def third_party_imports() -> list[Import]:
    return [each for each in all_imports() if is_third_party(each)]


def test_package_itself_needs_nothing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dependencies"] == []


@pytest.mark.parametrize("part", sorted(PARTS))
def test_part_imports_only_what_its_extras_install(part: str) -> None:
    allowed = {each for extra in PARTS[part] for each in packages(extra)}
    ours = [each for each in third_party_imports() if top_package(each.importer) == part]
    assert [str(each) for each in ours if not distributions_of(each.imported) & allowed] == []


def test_every_part_is_listed() -> None:
    assert {top_package(each.importer) for each in third_party_imports()} <= set(PARTS)


def test_all_has_every_extra_of_usual_size() -> None:
    large = {each for extra in ALL_BUT for each in packages(extra)} - packages("audio")
    assert packages("all") == {each for extra in EXTRAS for each in packages(extra)} - large


@pytest.mark.parametrize(
    ("missing", "code", "message"),
    [
        ("msgspec", "from steadyvoice import TTSService", 'msgspec is not installed: pip install "steadyvoice[audio]"'),
        ("av", "from steadyvoice import ElevenLabs", 'av is not installed: pip install "steadyvoice[audio]"'),
        ("msgspec", "import steadyvoice.fleet", 'msgspec is not installed: pip install "steadyvoice[fleet]"'),
        (
            "redis",
            "from steadyvoice.fleet.redis_store import RedisStore; RedisStore('redis://localhost', 'a')",
            'redis-py is not installed: pip install "steadyvoice[fleet]"',
        ),
        ("uvicorn", "import steadyvoice.gateway.app", 'uvicorn is not installed: pip install "steadyvoice[gateway]"'),
        (
            "typer",
            "from steadyvoice.cli import main; main()",
            'steadyvoice: typer is not installed: pip install "steadyvoice[gateway]"',
        ),
        (
            "uvicorn",
            "import sys; sys.argv = ['', 'serve', '--port', '0']; from steadyvoice.cli import main; main()",
            'system error: uvicorn is not installed: pip install "steadyvoice[gateway]"',
        ),
        (
            "botocore",
            "from steadyvoice import Polly; Polly(region='eu-west-1')",
            'botocore is not installed: pip install "steadyvoice[polly]"',
        ),
    ],
)
def test_missing_package_is_reported_with_the_command_that_installs_it(missing: str, code: str, message: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 4)
    assert message in done.stderr.splitlines()[-1]


def test_breaker_works_where_no_package_is_installed() -> None:
    code = "from steadyvoice.breaker import CircuitBreaker; print(CircuitBreaker('a').call(len, 'four'))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path.append('src'); {code}"], cwd=ROOT,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "4\n"


def test_module_in_a_missing_package_is_missing() -> None:
    assert is_installed("json.decoder")
    assert not is_installed("no_such_package.module")
    with pytest.raises(MissingExtraError, match=r'^no_such_package is not installed: pip install "steadyvoice\[x\]"$'):
        require("x", "json", "no_such_package.module")
