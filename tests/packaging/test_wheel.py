"""The wheel without any extra: reproducible, and the circuit breaker works where nothing else is installed."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from importlib.metadata import files, version
from pathlib import Path

import pytest

from .conftest import ROOT, Environment, build, copy_of_the_repository, environment

pytestmark = pytest.mark.slow

BREAKER = """
import sys
import steadyvoice.breaker
from steadyvoice.breaker import *
from steadyvoice.breaker.testing import VirtualClock
clock = VirtualClock()
breaker = CircuitBreaker("geocoder", CircuitBreakerConfig.consecutive(2), clock=clock)
assert breaker.call(len, "four") == 4
for _ in range(2):
    breaker.acquire().failure()
assert breaker.state is CircuitState.OPEN
outside = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"steadyvoice", "__main__"}
print("loaded:", sorted(name for name in outside if not name.startswith("_")))
"""

FLEET = """
import sys
from steadyvoice.breaker import CircuitRegistry
from steadyvoice.fleet import Fleet, FleetStoreError
from steadyvoice.fleet.redis_store import RedisStore
try:
    RedisStore("redis://127.0.0.1:1", "shop").beat("me", b"{}", 1.0, [])
except FleetStoreError as error:
    print("unreachable:", error)
outside = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"steadyvoice", "__main__"}
print("loaded:", sorted(name for name in outside if not name.startswith("_")))
"""


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Environment with the wheel, which no index was asked for: nothing else is needed."""
    return environment(tmp_path_factory.mktemp("bare"), ["--no-index", str(wheel)])


def test_distributions_are_the_same_bytes_whenever_and_wherever_they_are_built(tmp_path: Path) -> None:
    one, other = (copy_of_the_repository(tmp_path / name) for name in ("here", "somewhere/else"))
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o755 if path.is_dir() else 0o600)
    first, second = (build(each, each.parent / f"{each.name}-dist", "wheel", "sdist") for each in (one, other))
    assert [path.name for path in first] == [path.name for path in second]
    assert [a.name for a, b in zip(first, second, strict=True) if a.read_bytes() != b.read_bytes()] == []
    unpacked = tmp_path / "unpacked"
    with tarfile.open(first[1]) as archive:
        archive.extractall(unpacked, filter="data")
    (again,) = build(next(unpacked.iterdir()), tmp_path / "again", "wheel")
    assert again.read_bytes() == first[0].read_bytes()


def test_wheel_has_the_package_with_its_types_and_licence_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"steadyvoice-{version('steadyvoice')}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"steadyvoice", metadata}
    assert {"steadyvoice/py.typed", f"{metadata}/licenses/LICENSE", f"{metadata}/licenses/NOTICE"} <= set(names)
    source = ROOT / "src"
    expected = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    packed = {name for name in names if name.startswith("steadyvoice/")}
    assert packed == {name for name in expected if "__pycache__" not in name}


def test_breaker_alone_needs_and_loads_nothing_else(bare: Environment) -> None:
    assert bare.packages() == {"steadyvoice"}
    assert bare.run("-I", "-c", BREAKER) == "loaded: []\n"


def test_breaker_with_fleet_loads_two_packages_only(wheel: Path, tmp_path: Path) -> None:
    alone = environment(tmp_path / "fleet", ["--no-index", str(wheel)])
    site = next((alone.folder / "lib").glob("python*/site-packages"))
    for package in ("msgspec", "redis"):  # as they are installed here: without asking an index
        for path in files(package) or []:
            if ".." not in path.parts and "__pycache__" not in path.parts:
                (site / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(path.locate()), site / path)
    printed = alone.run("-I", "-c", FLEET).splitlines()
    assert printed[0].startswith("unreachable: ")
    assert printed[1] == "loaded: ['msgspec', 'redis']"


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["-m", "steadyvoice", "say", "Hello"], 'typer is not installed: pip install "steadyvoice[gateway]"', 1),
        (["-c", "from steadyvoice import TTSService"], 'msgspec is not installed: pip install "steadyvoice[audio]"', 1),
        (["-c", "import steadyvoice.fleet"], 'msgspec is not installed: pip install "steadyvoice[fleet]"', 1),
        (["-c", "import steadyvoice.livekit"], 'pip install "steadyvoice[audio]"', 1),
    ],
)
def test_missing_part_is_reported_with_the_command_that_installs_it(
    bare: Environment, arguments: list[str], message: str, status: int
) -> None:
    assert message in bare.run(*arguments, status=status).splitlines()[-1]


def test_command_of_the_wheel_starts(bare: Environment) -> None:
    script = bare.folder / "bin" / "steadyvoice"
    assert 'pip install "steadyvoice[gateway]"' in bare.run(str(script), "--help", status=1)
