"""Plugins: providers of other packages, found by their entry points."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from steadyvoice.providers.base import Accepted
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.plugins import GROUP, installed_kinds, load_kind
from steadyvoice.service.config_file import load_arguments
from steadyvoice.speech.errors import TTSConfigurationError
from tests.providers.scripted_vendor import collect_events, speech_request

PARROT = '''
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer

class Parrot:
    """Returns the text itself as bytes."""

    local = True

    def __init__(self, *, name="parrot"):
        self.name = name

    def offer(self, request):
        return SynthesisOffer(request.format, "polly")

    async def speak(self, request, offer, *, connection_timeout):
        yield Accepted()
        yield AudioChunk(request.text.encode())

    async def aclose(self):
        pass
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package with entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package: str, module: str, **entry_points: str) -> None:
        (tmp_path / f"{package}.py").write_text(module)
        described = tmp_path / f"{package}-1.2.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{kind} = {package}:{target}" for kind, target in entry_points.items()]
        (described / "entry_points.txt").write_text("\n".join(["[steadyvoice.providers]", *lines, ""]))

    return put


def test_built_in_kinds_are_entry_points() -> None:
    assert {"elevenlabs", "openai", "espeak", "tone"} <= set(installed_kinds())
    assert load_kind("elevenlabs") is ElevenLabs
    assert installed_kinds()["elevenlabs"].origin.startswith("steadyvoice ")


async def test_plugin_provider_is_loaded_by_its_kind(install: Install) -> None:
    install("parrot_of_tests", PARROT, parrot="Parrot")

    provider = load_kind("parrot")(name="pet")
    result = await collect_events(provider, speech_request("Hello"))

    assert provider.name == "pet"
    assert (result.accepted, result.data) == ([Accepted()], b"Hello")
    assert installed_kinds()["parrot"](name="same").name == "same"


def test_plugin_installed_while_the_process_runs_is_found(install: Install) -> None:
    assert "late" not in installed_kinds()
    install("late_of_tests", PARROT, late="Parrot")
    assert "late" in installed_kinds()


def test_broken_plugin_affects_no_other_kind(install: Install) -> None:
    install("broken_of_tests", "import a_module_that_is_not_there", broken="Anything")

    assert load_kind("elevenlabs") is ElevenLabs
    assert "broken" in installed_kinds()
    with pytest.raises(TTSConfigurationError, match=r"'broken' comes from broken_of_tests 1\.2.*a_module_that_is_not"):
        load_kind("broken")


@pytest.mark.parametrize("module", ["raise SystemError('odd')", "Other = 1"])
def test_any_error_of_a_plugin_import_is_a_configuration_error(
    install: Install, module: str, request: pytest.FixtureRequest
) -> None:
    package = f"odd_of_tests_{request.node.callspec.indices['module']}"
    install(package, module, odd="Missing")

    with pytest.raises(TTSConfigurationError, match=rf"'odd' comes from {package} 1\.2"):
        load_kind("odd")


def test_entry_point_that_is_not_callable_is_refused(install: Install) -> None:
    install("number_of_tests", "FIVE = 5", number="FIVE")

    with pytest.raises(TTSConfigurationError, match="is not a class or function"):
        load_kind("number")


def test_plugin_cannot_replace_a_built_in_kind(install: Install) -> None:
    install("impostor_of_tests", PARROT, elevenlabs="Parrot")

    assert load_kind("elevenlabs") is ElevenLabs


def test_unknown_kind_lists_the_installed_ones() -> None:
    with pytest.raises(TTSConfigurationError, match=r"'nuance'.*elevenlabs.*openai.*install") as refused:
        load_kind("nuance")

    assert refused.value.kind.value == "misconfigured"


def test_plugin_of_the_page_is_a_kind(install: Install, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
    section = page.partition("### Publish it as a plugin\n")[2].partition("\n### ")[0]
    project, settings = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    code = page.partition("## Write a provider\n")[2].partition("```python\n")[2].partition("\n\nwith ")[0]
    ((group, targets),) = tomllib.loads(project)["project"]["entry-points"].items()
    ((kind, target),) = targets.items()
    install(target.partition(":")[0].replace(".", "_"), code, **{kind: target.partition(":")[2]})
    config = tmp_path / "steadyvoice.toml"
    config.write_text(settings, "utf-8")

    (provider,) = load_arguments(config, {})["providers"]

    assert group == GROUP
    assert (provider.name, vars(provider)["every"]) == ("metronome", 0.25)
