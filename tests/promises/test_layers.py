"""Imports point down only, and never sideways between packages of one layer."""

from __future__ import annotations

import pytest

from .layers import LAYERS, PACKAGE, all_imports, imports_of, is_third_party, sub_packages, top_package, violation


def test_imports_point_down_only() -> None:
    found = all_imports()
    assert len(found) > 200  # the source was found
    assert [problem for each in found if (problem := violation(each))] == []


def test_every_package_has_a_layer() -> None:
    packages = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert packages - {"__init__"} <= set(LAYERS)


def test_breaker_imports_only_the_standard_library_itself_and_option_rules() -> None:
    found = [each for each in all_imports() if top_package(each.importer) == "breaker"]
    assert found
    assert [str(each) for each in found if is_third_party(each)] == []
    ours = [each for each in found if each.imported.startswith("steadyvoice")]
    allowed = ("steadyvoice.breaker.", "steadyvoice._option_rules.")
    assert [str(each) for each in ours if not each.imported.startswith(allowed)] == []


def test_option_rules_import_only_the_standard_library() -> None:
    found = [each for each in all_imports() if each.importer == "_option_rules"]
    assert found
    assert [str(each) for each in found if is_third_party(each) or each.imported.startswith("steadyvoice")] == []


def test_speech_imports_no_third_party_package() -> None:
    found = [each for each in all_imports() if top_package(each.importer) == "speech"]
    assert found
    assert [str(each) for each in found if is_third_party(each)] == []


def test_no_module_imports_a_vendors_own_client() -> None:
    packages = {each.imported.partition(".")[0] for each in all_imports()}
    assert {"aiohttp", "pydantic"} <= packages
    assert packages.isdisjoint({"elevenlabs", "openai", "httpx", "httpx2", "requests"})


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("speech.text", "from steadyvoice.service.resilience.failover import Try", "upward, from layer 0 to layer 3"),
        ("speech.text", "import steadyvoice.cli", "upward, from layer 0 to layer 5"),
        ("speech.text", "from steadyvoice import service", "upward, from layer 0 to layer 3"),
        ("speech.text", "from ..service.plan import Try", "upward"),
        ("speech.__init__", "from ..service import plan", "upward"),
        ("speech.text", "def f():\n    from steadyvoice.wire import openai", "upward"),
        ("speech.text", "import_module('steadyvoice.audio.wav')", "upward"),
        ("speech.text", "importlib.import_module('steadyvoice.audio.wav')", "upward"),
        ("breaker.state_machine", "from steadyvoice.speech.text import split", "sideways, within layer 0"),
        ("gateway.openai", "import steadyvoice.simulator.script as script", "sideways, within layer 4"),
        ("cli.say.deep", "from ...__main__ import main", "upward"),
        ("service.plan", "from steadyvoice import TTSError", "imports the package itself"),
        ("service.plan", "import steadyvoice", "imports the package itself"),
        ("unknown.module", "from steadyvoice.speech import text", "no layer is known for 'unknown'"),
    ],
)
def test_import_against_the_layers_is_found(module: str, source: str, problem: str) -> None:
    (found,) = imports_of(module, source)
    assert problem in (violation(found) or "nothing")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.plan", "from steadyvoice.speech.text import split"),
        ("service.plan", "from steadyvoice.service.resilience.retry import RetryConfig"),
        ("service.plan", "from .retry import RetryConfig"),
        ("service.__init__", "from .retry import RetryConfig"),
        ("service.plan", "from ..speech import text"),
        ("service.plan", "import asyncio"),
        ("breaker.state_machine", "from steadyvoice._version import __version__"),
        ("__init__", "from steadyvoice.cli import main"),
        ("cli", "from steadyvoice.gateway import openai"),
    ],
)
def test_import_of_a_lower_layer_is_allowed(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert violation(found) is None


def test_sub_packages_of_a_package_import_each_other_one_way_only() -> None:
    directions = {pair for each in all_imports() if (pair := sub_packages(each))}
    assert ("service.pipeline", "service.resilience") in directions
    assert sorted((a, b) for a, b in directions if (b, a) in directions) == []
