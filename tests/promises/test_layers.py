"""Imports point down only, and never sideways between rooms of one floor."""

from __future__ import annotations

import pytest

from .layers import LAYERS, PACKAGE, all_imports, imports_of, is_third_party, top_package, violation


def test_imports_point_down_only() -> None:
    found = all_imports()
    assert len(found) > 200  # the walk has seen the house, and not an empty lot
    assert [said for each in found if (said := violation(each))] == []


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} <= set(LAYERS)


def test_the_breaker_needs_the_standard_library_and_itself_only() -> None:
    found = [each for each in all_imports() if top_package(each.importer) == "breaker"]
    assert found
    assert [str(each) for each in found if is_third_party(each)] == []
    ours = [each for each in found if each.imported.startswith("steadyvoice")]
    assert [str(each) for each in ours if not each.imported.startswith("steadyvoice.breaker.")] == []


def test_the_words_of_the_domain_need_nothing_from_outside() -> None:
    found = [each for each in all_imports() if top_package(each.importer) == "speech"]
    assert found
    assert [str(each) for each in found if is_third_party(each)] == []


def test_nobody_leans_on_a_vendors_own_client() -> None:
    packages = {each.imported.partition(".")[0] for each in all_imports()}
    assert {"aiohttp", "pydantic"} <= packages
    assert packages.isdisjoint({"elevenlabs", "openai", "httpx", "httpx2", "requests", "websockets"})


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("speech.text", "from steadyvoice.service.pipeline.failover import Try", "upward, from floor 0 to floor 3"),
        ("speech.text", "import steadyvoice.cli", "upward, from floor 0 to floor 5"),
        ("speech.text", "from steadyvoice import service", "upward, from floor 0 to floor 3"),
        ("speech.text", "from ..service.plan import Try", "upward"),
        ("speech.__init__", "from ..service import plan", "upward"),
        ("speech.text", "def f():\n    from steadyvoice.wire import openai", "upward"),
        ("speech.text", "import_module('steadyvoice.audio.wav')", "upward"),
        ("speech.text", "importlib.import_module('steadyvoice.audio.wav')", "upward"),
        ("breaker.state_machine", "from steadyvoice.speech.text import split", "sideways, on floor 0"),
        ("gateway.openai", "import steadyvoice.simulator.script as script", "sideways, on floor 4"),
        ("cli.say.deep", "from ...__main__ import main", "upward"),
        ("service.plan", "from steadyvoice import TTSError", "front door"),
        ("service.plan", "import steadyvoice", "front door"),
        ("cellar.rats", "from steadyvoice.speech import text", "no floor is known for 'cellar'"),
    ],
)
def test_a_trespass_is_caught(module: str, source: str, said: str) -> None:
    (found,) = imports_of(module, source)
    assert said in (violation(found) or "nothing")


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
def test_the_way_down_is_open(module: str, source: str) -> None:
    (found,) = imports_of(module, source)
    assert violation(found) is None
