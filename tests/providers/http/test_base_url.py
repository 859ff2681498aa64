"""Base URLs as users paste them: paths of endpoints are removed, invalid URLs are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from steadyvoice import ElevenLabs, OpenAICompatible
from steadyvoice.service.config_file import load_arguments
from steadyvoice.speech.errors import TTSConfigurationError
from tests.providers.scripted_vendor import ScriptedVendor, audio_response, collect_events, speech_request

KEY = "sk_0123456789"


@pytest.mark.parametrize(
    "ending",
    ["", "/", "//", "/v1", "/v1/", "//v1//", "/V1", "/v2", "/v1/v1", "/v1/v2/voices",
     "/v1/text-to-speech", "/v1/text-to-speech/", "/v1/voices",
     "/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream"],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "/elevenlabs", "/api/v3x"])
async def test_elevenlabs_endpoint_paths_are_removed(vendor: ScriptedVendor, below: str, ending: str) -> None:
    provider = ElevenLabs(KEY, base_url=vendor.url + below + ending)
    vendor.enqueue(audio_response())

    await collect_events(provider, speech_request())
    await provider.aclose()

    assert vendor.requests[0].target.startswith(f"{below}/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/v1/audio/speech"),
        ("//", "/v1/audio/speech"),
        ("/v1//", "/v1/audio/speech"),
        ("/v1/audio", "/v1/audio/speech"),
        ("/v1/audio/speech", "/v1/audio/speech"),
        ("/v1/audio/speech/", "/v1/audio/speech"),
        ("/v1/models", "/v1/audio/speech"),
        ("/openai/v1", "/openai/v1/audio/speech"),
        ("/openai", "/openai/v1/audio/speech"),
        ("/v1/openai", "/v1/openai/audio/speech"),
        ("/v1beta/openai/", "/v1beta/openai/audio/speech"),
        ("/api/v3", "/api/v3/audio/speech"),
        ("/api/v3/audio/speech", "/api/v3/audio/speech"),
    ],
)
async def test_openai_base_url_is_read_as_by_its_own_client(vendor: ScriptedVendor, path: str, asked: str) -> None:
    provider = OpenAICompatible(KEY, base_url=vendor.url + path)
    vendor.enqueue(audio_response())

    await collect_events(provider, speech_request())
    await provider.aclose()

    assert vendor.requests[0].target == asked


NONSENSE = {
    "no scheme": "api.example.com",
    "no scheme, but a path": "api.example.com/v1",
    "no scheme, but a port": "localhost:8880",
    "a socket's scheme": "wss://api.example.com",
    "another scheme": "ftp://api.example.com",
    "one slash": "https:/api.example.com",
    "no host": "https:///v1",
    "a query": "https://api.example.com/v1?model=tts-1",
    "an empty query": "https://api.example.com/v1?",
    "a fragment": "https://api.example.com/#top",
    "a user": "https://me:sesame@api.example.com",
    "a port that is none": "https://api.example.com:port",
    "a port that cannot be": "https://api.example.com:99999",
    "quotes": '"https://api.example.com"',
    "a variable": "${BASE_URL}",
    "a variable for the host": "https://${HOST}/v1",
    "a variable for the host, of Windows": "https://$HOST",
    "a variable in the path": "https://api.example.com/{region}",
    "a space": "https://api.example.com /v1",
    "an empty label": "https://api..example.com",
    "a label too long": f"https://{'a' * 64}.example.com",
    "nothing": "",
}


@pytest.mark.parametrize("how", NONSENSE)
@pytest.mark.parametrize("kind", ["elevenlabs", "openai"])
def test_invalid_base_url_is_refused_by_name(kind: str, how: str, tmp_path: Path) -> None:
    url = NONSENSE[how]
    with pytest.raises(TTSConfigurationError, match=r"main\.base_url: ") as refused:
        (ElevenLabs if kind == "elevenlabs" else OpenAICompatible)(KEY, name="main", base_url=url)
    assert "sesame" not in str(refused.value)

    file = tmp_path / "steadyvoice.toml"
    file.write_text(f'[[providers]]\nkind = "{kind}"\napi_key = "{KEY}"\nbase_url = "env:URL"\n')
    if url:
        with pytest.raises(TTSConfigurationError, match=r"providers\.0\.base_url: "):
            load_arguments(file, {"URL": url})


def test_base_url_without_a_scheme_is_refused_with_a_suggestion() -> None:
    with pytest.raises(TTSConfigurationError, match=r"as in https://api\.example\.com/v1"):
        OpenAICompatible(KEY, base_url="api.example.com/v1")


@pytest.mark.parametrize("key", ["sk_0123456789abcdef0123", "0123456789abcdef0123456789abcdef", "sk-0123", "Ab.Cd.Ef"])
@pytest.mark.parametrize("form", ["{}", "https://api.example.com/{{{}}}"])
def test_key_in_place_of_a_base_url_is_not_shown(key: str, form: str) -> None:
    with pytest.raises(TTSConfigurationError, match=r"main\.base_url: ") as refused:
        ElevenLabs(KEY, name="main", base_url=form.format(key))
    assert key not in str(refused.value)
