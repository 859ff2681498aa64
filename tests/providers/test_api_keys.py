"""Invalid API keys are refused before anything is sent, by the name of their field, and are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible
from steadyvoice.providers.credentials import api_key_problem, strip_secret, token_problem
from steadyvoice.service.config_file import load_arguments
from steadyvoice.speech.errors import TTSConfigurationError

KEY = "sk_" + "0123456789abcdef" * 2

PASTED = {
    "double quotes": f'"{KEY}"',
    "single quotes": f"'{KEY}'",
    "backquotes": f"`{KEY}`",
    "curly quotes": f"\u201c{KEY}\u201d",
    "curly single quotes": f"\u2018{KEY}\u2019",
    "low and high quotes": f"\u201e{KEY}\u201c",
    "one quote only": f'"{KEY}',
    "a quote at the end": f"{KEY}'",
    "a header": f"Bearer {KEY}",
    "a header in small letters": f"bearer {KEY}",
    "a whole header": f"xi-api-key: {KEY}",
    "the other whole header": f"Authorization: Bearer {KEY}",
    "a line of a file": f"ELEVENLABS_API_KEY={KEY}",
    "a line of a script": f"export OPENAI_API_KEY={KEY}",
    "a space inside": f"{KEY[:9]} {KEY[9:]}",
    "a line break inside": f"{KEY[:9]}\n{KEY[9:]}",
    "a carriage return inside": f"{KEY[:9]}\r\n{KEY[9:]}",
    "a mark of no width inside": f"{KEY[:9]}\u200b{KEY[9:]}",
    "a letter beyond ASCII": f"{KEY}\u00e9",
    "a Cyrillic letter": KEY.replace("a", "\u0430", 1),
    "masked": "sk_0123********************cdef",
    "shortened": "sk_0123...cdef",
    "shortened by one character": "sk_0123\u2026cdef",
    "a variable of a shell": "${ELEVENLABS_API_KEY}",
    "a variable with a default": "${ELEVENLABS_API_KEY:-none}",
    "a variable without braces": "$ELEVENLABS_API_KEY",
    "a variable in small letters": "$elevenlabs_key",
    "a variable of Windows": "%ELEVENLABS_API_KEY%",
    "a variable of PowerShell": "$env:ELEVENLABS_API_KEY",
    "a variable of a template": "{{ secrets.ELEVENLABS_API_KEY }}",
    "a variable of a pipeline": "${{ secrets.ELEVENLABS_API_KEY }}",
    "part of it a variable": "sk_${REST}",
    "a command": "$(cat /run/secrets/key)",
    "code": 'os.environ["ELEVENLABS_API_KEY"]',
    "a placeholder": "your_api_key_here",
    "another placeholder": "YOUR-ELEVENLABS-API-KEY",
    "a placeholder with a beginning": "sk-your-key-here",
    "a placeholder in brackets": "<your key>",
    "a placeholder in brackets of one word": "<ELEVENLABS_API_KEY>",
    "an instruction": "replace-with-your-api-key",
    "a short instruction": "changeme",
    "an instruction to paste": "PASTE_KEY_HERE",
}  # fmt: skip


@pytest.mark.parametrize("how", PASTED)
@pytest.mark.parametrize("vendor", [ElevenLabs, OpenAICompatible])
def test_invalid_argument_is_refused_by_name_and_not_shown(
    vendor: type[ElevenLabs] | type[OpenAICompatible], how: str
) -> None:
    with pytest.raises(TTSConfigurationError, match=r"main\.api_key: ") as refused:
        vendor(PASTED[how], name="main")
    assert shows_no_part_of(refused.value, PASTED[how])


@pytest.mark.parametrize("how", PASTED)
def test_invalid_environment_variable_is_refused_by_name(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", PASTED[how])
    with pytest.raises(TTSConfigurationError, match=r"elevenlabs\.api_key: .*ELEVENLABS_API_KEY") as refused:
        ElevenLabs()
    assert shows_no_part_of(refused.value, PASTED[how])

    with pytest.raises(TTSConfigurationError, match="OPENAI_API_KEY") as refused:
        AsyncTTSService.from_env({"OPENAI_API_KEY": PASTED[how]})
    assert shows_no_part_of(refused.value, PASTED[how])


@pytest.mark.parametrize("how", PASTED)
def test_invalid_variable_named_in_a_file_is_refused_with_its_path(how: str, tmp_path: Path) -> None:
    file = tmp_path / "steadyvoice.toml"
    file.write_text('[[providers]]\nkind = "openai"\nbase_url = "http://here"\napi_key = "env:MY_KEY"\n')
    with pytest.raises(TTSConfigurationError, match=r"providers\.0\.api_key: .*MY_KEY") as refused:
        load_arguments(file, {"MY_KEY": PASTED[how]})
    assert shows_no_part_of(refused.value, PASTED[how])


GATEWAY = [how for how in PASTED if not how.startswith(("one quote", "a quote", "masked", "a variable in small"))]


@pytest.mark.parametrize("how", [how for how in GATEWAY if how != "shortened"])
@pytest.mark.parametrize(
    ("field", "path"), [('api_keys = ["{}"]', "api_keys.0"), ('admin_token = "{}"', "admin_token")]
)
def test_gateway_keys_are_checked_as_well(how: str, field: str, path: str, tmp_path: Path) -> None:
    file = tmp_path / "steadyvoice.toml"
    file.write_text(f'[server]\n{field.format("env:GATE_KEY")}\n[[providers]]\nkind = "tone"\n')
    with pytest.raises(TTSConfigurationError, match=rf"server\.{path}: .*GATE_KEY") as refused:
        load_arguments(file, {"GATE_KEY": PASTED[how]})
    assert shows_no_part_of(refused.value, PASTED[how])

    quoted = PASTED[how].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    file.write_text(f'[server]\n{field.format(quoted)}\n[[providers]]\nkind = "tone"\n')
    with pytest.raises(TTSConfigurationError, match=rf"server\.{path}: ") as refused:
        load_arguments(file, {})
    assert shows_no_part_of(refused.value, PASTED[how])


@pytest.mark.parametrize("around", ["\r", "\n", "\r\n", " ", "\t", "\ufeff", "\u00a0", "\u200b"])
def test_whitespace_around_a_variable_is_stripped(around: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", KEY)
    clean = ElevenLabs().credential
    monkeypatch.setenv("ELEVENLABS_API_KEY", around + KEY + around)
    assert ElevenLabs().credential.id == clean.id
    file = tmp_path / "steadyvoice.toml"
    file.write_text('[server]\napi_keys = ["env:GATE"]\n[[providers]]\nkind = "elevenlabs"\napi_key = "env:E"\n')
    [provider] = load_arguments(file, {"GATE": "gate" + around, "E": KEY + around})["providers"]
    assert isinstance(provider, ElevenLabs)
    assert provider.credential.id == clean.id


@pytest.mark.parametrize("nothing", ["none", "null", "undefined", "sk-xxxxxxxx", "xxxx", "..."])
def test_word_for_no_key_is_refused_where_a_key_is_required(nothing: str) -> None:
    with pytest.raises(TTSConfigurationError, match=r"elevenlabs\.api_key: .*(placeholder|shortened)"):
        ElevenLabs(nothing)


@pytest.mark.parametrize("key", ["none", "EMPTY", "not-needed", "sk-no-key-required", "dummy", "lm-studio", "sk-xxx"])
def test_self_hosted_server_may_accept_any_key(key: str) -> None:
    OpenAICompatible(key, base_url="http://localhost:8880/v1")


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        "sk-proj-Ab_12-cdEFGh345_ijKLmnOPqrST67-uvWXyz",
        "0123456789abcdef0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "AIzaSyA-1234567890abcdefghijklmnopqrstu",
        "c2VjcmV0IGtleSBvZiBzb21lYm9keQ==",
        "the-key", "any", "k", "token", "my-key", "key-12345",
    ],
)  # fmt: skip
def test_valid_keys_are_accepted(key: str) -> None:
    assert api_key_problem(key) is None
    assert token_problem(key) is None


@pytest.mark.parametrize("token", ["pa$$word", "it's", "100%sure%", "a;b,c", "x{y}", "#!/", "$ecret"])
def test_own_token_may_contain_nearly_any_character(token: str) -> None:
    assert token_problem(token) is None


@pytest.mark.parametrize("part", ["a_", "a-", "_", "xxx_", "KEY", "${", "your", "key", "add ", "%a"])
@pytest.mark.parametrize("end", ["b", "\n", " ", "x", ""])
def test_validation_time_is_linear_in_the_length_of_a_key(part: str, end: str) -> None:
    key = part * (4_000 // len(part)) + end
    api_key_problem(key)
    token_problem(key)


@pytest.mark.parametrize("name", [KEY, "0123456789abcdef0123456789abcdef"])
def test_key_in_place_of_a_variable_name_is_not_shown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "steadyvoice.toml"
    file.write_text(f'[[providers]]\nkind = "elevenlabs"\napi_key = "env:{name}"\n')
    with pytest.raises(
        TTSConfigurationError, match=r"providers\.0\.api_key: .* named after `env:` is not set"
    ) as refused:
        load_arguments(file, {})
    assert name not in str(refused.value)


@pytest.mark.parametrize("name", ["ELEVENLABS_API_KEY", "TTS_KEY_2", "my_key2", "elevenlabs_api_key"])
def test_name_of_an_unset_variable_is_shown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "steadyvoice.toml"
    file.write_text(f'[[providers]]\nkind = "elevenlabs"\napi_key = "env:{name}"\n')
    with pytest.raises(TTSConfigurationError, match=rf"providers\.0\.api_key: .* {name} is not set"):
        load_arguments(file, {})


def test_whitespace_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strip_secret(" \r\n") == ""
    monkeypatch.setenv("ELEVENLABS_API_KEY", " \r\n")
    with pytest.raises(TTSConfigurationError, match=r"missing; .*ELEVENLABS_API_KEY"):
        ElevenLabs()


def shows_no_part_of(error: Exception, key: str) -> bool:
    """Return whether an error shows no part of a key."""
    shown = f"{error} {error!r}"
    return KEY[3:12] not in shown and KEY[12:] not in shown and (key not in shown or "API_KEY" in key)
