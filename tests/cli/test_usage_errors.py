"""Usage errors: exit status 2, one line, and no files left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from steadyvoice.cli.app import app

TONE = ("--provider", "tone")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory in which the command runs, without API keys."""
    monkeypatch.chdir(tmp_path)
    for name in ("ELEVENLABS_API_KEY", "OPENAI_API_KEY", "STEADYVOICE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(*arguments: str, stdin: bytes = b"") -> str:
    """Run the command, check that it is a usage error, and return its message."""
    result = CliRunner().invoke(app, [*arguments], input=stdin)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, "one paragraph"
    assert result.stderr.startswith("usage error: ")
    return result.stderr


@pytest.mark.parametrize("text", ["", "   \n\t ", "\x00\x07\x1b", "\ufeff"])
def test_empty_text(folder: Path, text: str) -> None:
    assert "the text is empty" in refused("say", text, "-o", "a.wav", *TONE)
    assert list(folder.iterdir()) == []


def test_empty_standard_input(folder: Path) -> None:
    assert "the text is empty" in refused("say", "-", "-o", "a.wav", *TONE)


def test_standard_input_that_is_not_utf8(folder: Path) -> None:
    message = refused("say", "-", "-o", "a.wav", *TONE, stdin=b"caf\xe9")
    assert "0xe9 at offset 3" in message
    assert "iconv" in message


def test_argument_that_is_not_utf8(folder: Path) -> None:
    assert "not UTF-8" in refused("say", "caf\udce9", "-o", "a.wav", *TONE)


def test_directory_that_does_not_exist(folder: Path) -> None:
    assert f"mkdir -p {folder / 'nowhere'}" in refused("say", "Hello", "-o", "nowhere/a.wav", *TONE)


def test_directory_instead_of_a_file(folder: Path) -> None:
    assert "is a directory; give a file in it" in refused("say", "Hello", "-o", str(folder), *TONE)


def test_file_that_cannot_be_created(folder: Path) -> None:
    name = "a" * 250 + ".wav"  # longer than file systems allow, once it has its part's ending
    assert "cannot write" in refused("say", "Hello", "-o", name, *TONE)


def test_unknown_extension(folder: Path) -> None:
    message = refused("say", "Hello", "-o", "a.docx", *TONE)
    assert "'a.docx'" in message
    assert ".wav" in message


def test_unknown_format(folder: Path) -> None:
    message = refused("say", "Hello", "-o", "a.wav", "--format", "mp9", *TONE)
    assert "'mp9'" in message
    assert "mp3_44100_128" in message


def test_unknown_voice(folder: Path) -> None:
    message = refused("say", "Hello", "-o", "a.wav", "--voice", "Morgan", *TONE)
    assert "'Morgan'" in message
    assert "tone" in message
    assert list(folder.iterdir()) == []


def test_unknown_provider(folder: Path) -> None:
    message = refused("say", "Hello", "-o", "a.wav", "--provider", "megaphone")
    assert "'megaphone'" in message
    assert "azure, cartesia, deepgram, elevenlabs, espeak, google, neural, openai, polly, tone" in message


def test_provider_missing_from_the_configuration(folder: Path) -> None:
    (folder / "c.toml").write_text('[[providers]]\nname = "backup"\nkind = "tone"\n')
    message = refused("say", "Hello", "-o", "a.wav", "--config", "c.toml", "--provider", "elevenlabs")
    assert "configured: backup" in message


def test_missing_api_key(folder: Path) -> None:
    assert "ELEVENLABS_API_KEY" in refused("say", "Hello", "-o", "a.wav", "--provider", "elevenlabs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("this is not TOML", "not valid TOML"),
        ("", "providers"),
        ('[[providers]]\nkind = "megaphone"', "providers.0.kind"),
        ('[timeouts]\nread_timeout = -1\n[[providers]]\nkind = "tone"', "timeouts.read_timeout"),
        ('[circuit]\nwindow_size = 2\nminimum_calls = 5\n[[providers]]\nkind = "tone"', "circuit.minimum_calls"),
        ('[sever]\nport = 1\n[[providers]]\nkind = "tone"', "sever: unknown key"),
        ('[[providers]]\nkind = "elevenlabs"\napi_key = "env:NOBODY_SET_THIS"', "NOBODY_SET_THIS is not set"),
    ],
)
def test_invalid_configuration(folder: Path, content: str, message: str) -> None:
    (folder / "c.toml").write_text(content)
    assert message in refused("say", "Hello", "-o", "a.wav", "--config", "c.toml")


def test_missing_configuration_file(folder: Path) -> None:
    assert "none.toml" in refused("say", "Hello", "-o", "a.wav", "--config", "none.toml")


@pytest.mark.parametrize("arguments", [("say",), ("sing", "Hello"), ("say", "Hello", "--loud")])
def test_invalid_command_line(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
