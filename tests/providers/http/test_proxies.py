"""Proxies of the configuration and the environment, on real sockets, as the vendors' own clients use them."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from steadyvoice import AsyncTTSService, ElevenLabs, OpenAICompatible, Tone
from steadyvoice.providers.http.urls import matches_no_proxy, select_proxy
from steadyvoice.service.config_file import load_arguments
from steadyvoice.simulator.simulator import Simulator
from steadyvoice.speech.errors import TTSConfigurationError, TTSConnectError, TTSError
from steadyvoice.speech.failure_kinds import FailureKind
from tests.parametrize_ids import stable_repr
from tests.providers.scripted_vendor import (
    ScriptedVendor,
    audio_response,
    collect_events,
    scripted_vendor,
    speech_request,
    tcp_server,
)

KEY = "sk_test"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedVendor]:
    async with scripted_vendor() as listening:
        yield listening


@dataclass
class Proxy:
    """Proxy that forwards requests and opens tunnels. `password` is the required name:password."""

    password: str | None = None
    port: int = 0
    heads: list[str] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        if self.password and base64.b64encode(self.password.encode()).decode() not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            return
        if method == "CONNECT":
            self.tunnels.append(target)
            host, _, port = target.rpartition(":")
            there, out = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            url = httpx.URL(target)
            there, out = await asyncio.open_connection(url.host, url.port)
            out.write(head.replace(target, url.raw_path.decode(), 1).encode())
        try:
            await asyncio.gather(pump(reader, out), pump(there, writer))
        finally:
            out.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def proxy_on_a_socket(password: str | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(password)
    async with tcp_server(proxy.serve) as proxy.port:
        yield proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxy_on_a_socket() as listening:
        yield listening


kinds = pytest.mark.parametrize("kind", ["elevenlabs", "openai"])


def new_provider(kind: str, url: str, **more: Any) -> ElevenLabs | OpenAICompatible:
    return (ElevenLabs if kind == "elevenlabs" else OpenAICompatible)(KEY, base_url=url, **more)


async def speak(kind: str, url: str, **more: Any) -> bytes:
    provider = new_provider(kind, url, **more)
    try:
        return (await collect_events(provider, speech_request())).data
    finally:
        await provider.aclose()


@kinds
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", "http://127.0.0.1:{}/", " 127.0.0.1:{} "])
async def test_proxy_of_the_environment_is_used(
    vendor: ScriptedVendor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str, form: str
) -> None:
    monkeypatch.setenv(variable, form.format(proxy.port))
    vendor.enqueue(audio_response(b"spoken"))

    assert await speak(kind, vendor.url) == b"spoken"
    assert proxy.heads[0].startswith(f"POST {vendor.url}/v1/")


@kinds
@pytest.mark.parametrize(
    "no_proxy",
    ["*", "127.0.0.1", "localhost, 127.0.0.1", "10.0.0.1,127.0.0.1", "127.0.0.0/8", "127.0.0.1:{port}", "http://127.0.0.1",
     "all://127.0.0.1", " 127.0.0.1 ", "example.com 127.0.0.1"],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
async def test_no_proxy_is_respected(
    vendor: ScriptedVendor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str, no_proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv(variable, no_proxy.format(port=vendor.url.rpartition(":")[2]))
    vendor.enqueue(audio_response(b"spoken"))

    assert await speak(kind, vendor.url) == b"spoken"
    assert proxy.heads == []


@kinds
async def test_trust_env_false_ignores_the_environment(
    vendor: ScriptedVendor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    vendor.enqueue(audio_response(b"spoken"))
    assert await speak(kind, vendor.url, trust_env=False) == b"spoken"
    assert proxy.heads == []

    file = tmp_path / "steadyvoice.toml"
    file.write_text(f'[[providers]]\nkind = "{kind}"\napi_key = "k"\nbase_url = "{vendor.url}"\ntrust_env = false\n')
    [provider] = load_arguments(file, {})["providers"]
    vendor.enqueue(audio_response(b"spoken"))
    assert (await collect_events(provider, speech_request())).data == b"spoken"
    await provider.aclose()
    assert proxy.heads == []


async def test_configured_proxy_wins(vendor: ScriptedVendor, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    vendor.enqueue(audio_response(b"spoken"))
    assert await speak("openai", vendor.url, proxy=f"http://127.0.0.1:{proxy.port}") == b"spoken"
    assert len(proxy.heads) == 1


@kinds
async def test_proxy_password_is_sent_to_the_proxy_only(
    vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with proxy_on_a_socket("me:open sesame") as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:open%20sesame@127.0.0.1:{proxy.port}")
        vendor.enqueue(audio_response(b"spoken"))
        assert await speak(kind, vendor.url) == b"spoken"

        monkeypatch.setenv("http_proxy", f"http://me:wrong-sesame@127.0.0.1:{proxy.port}")
        for url in (vendor.url, "https://127.0.0.1:1"):
            monkeypatch.setenv("https_proxy", f"http://me:wrong-sesame@127.0.0.1:{proxy.port}")
            with pytest.raises(TTSConnectError, match="407") as refused:
                await speak(kind, url)
            shown = "".join(traceback.format_exception(refused.value)) + repr(new_provider(kind, url))
            assert "sesame" not in shown


async def test_unreachable_proxy_is_a_connect_error(vendor: ScriptedVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:sesame@127.0.0.1:1")
    async with AsyncTTSService([ElevenLabs(KEY, base_url="https://far.invalid"), Tone()]) as tts:
        speech = await tts.synthesize("Hello")
        assert tts.get_error_state()["window"]["failures"] >= 1
    error = speech.attempts[0].error
    assert isinstance(error, TTSError)
    assert error.kind is FailureKind.CONNECT_FAILED
    assert "the proxy 127.0.0.1:1" in str(error)
    assert "sesame" not in str(error)


UNUSABLE = {
    "not an address": "http://",
    "no host": "http://:3128",
    "a port that cannot be": "http://proxy:99999",
    "a port that is none": "proxy:port",
    "another scheme": "ftp://proxy:21",
    "SOCKS": "socks5://me:sesame@127.0.0.1:1080",
    "SOCKS with names": "socks5h://127.0.0.1:1080",
    "quotes": '"http://me:sesame@proxy:3128"',
    "a variable": "${CORP_PROXY}",
    "a variable in it": "http://$PROXY_HOST:3128",
    "a space": "http://me:ses ame@proxy:3128",
}


@kinds
@pytest.mark.parametrize("how", UNUSABLE)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_invalid_proxy_variable_is_named(monkeypatch: pytest.MonkeyPatch, kind: str, how: str, variable: str) -> None:
    monkeypatch.setenv(variable, UNUSABLE[how])
    with pytest.raises(TTSConfigurationError, match=rf"{variable} .*NO_PROXY.*trust_env") as refused:
        new_provider(kind, "https://api.example.com")
    assert "sesame" not in str(refused.value)

    new_provider(kind, "https://api.example.com", trust_env=False)
    monkeypatch.setenv("NO_PROXY", ".example.com")
    new_provider(kind, "https://api.example.com")
    if variable != "ALL_PROXY":
        new_provider(kind, "http://other.invalid")


@pytest.mark.parametrize(
    "user",
    [
        "user:p%C3%A4ss",
        "user:%41bc%21",
        "user:Pa$sword",
        "us'er:x",
        "user:`{x}`",
        "user:a@b",
        "user:%",
        "user:100%25%20",
    ],
)
def test_proxy_password_may_contain_special_characters(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    proxy = f"http://{user}@proxy:3128"
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert select_proxy("https://a.example", proxy=None, trust_env=True, provider="p") == proxy


@pytest.mark.parametrize(
    "user", ["user:${PASSWORD}", "user:{{ password }}", "%USER%:x", 'user:"sesame"', "<user>:sesame", "user:%PASS_1%"]
)
def test_unexpanded_variable_in_the_proxy_user_is_refused(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{user}@proxy:3128")
    with pytest.raises(TTSConfigurationError, match=r"HTTPS_PROXY contains quotes or an unexpanded variable"):
        select_proxy("https://a.example", proxy=None, trust_env=True, provider="p")


@kinds
@pytest.mark.parametrize("proxy", [8080, b"http://proxy:3128", {"https": "http://proxy:3128"}, True], ids=stable_repr)
def test_proxy_that_is_not_text_is_refused_by_name(kind: str, proxy: Any) -> None:
    with pytest.raises(TTSConfigurationError, match=rf"{kind}\.proxy: must be text"):
        new_provider(kind, "https://api.example.com", proxy=proxy)


def test_variable_of_the_scheme_wins_over_all_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:2")

    def chosen(url: str) -> str | None:
        return select_proxy(url, proxy=None, trust_env=True, provider="p")

    assert chosen("https://a.example") == chosen("wss://a.example") == "http://secure:2"
    assert chosen("http://a.example") == chosen("ws://a.example") == "http://all:1"
    monkeypatch.setenv("https_proxy", "http://small:3")
    assert chosen("https://a.example") == "http://small:3"


@pytest.mark.parametrize(
    ("url", "no_proxy", "without"),
    [
        ("https://api.example.com", "example.com", True),
        ("https://api.example.com", ".example.com", True),
        ("https://api.example.com", "*.example.com", True),
        ("https://api.example.com", "API.EXAMPLE.COM", True),
        ("https://api.example.com.", "api.example.com", True),
        ("https://example.com", ".example.com", True),
        ("https://badexample.com", "example.com", False),
        ("https://api.example.com", "api", False),
        ("https://api.example.com", "example.org,example.net", False),
        ("https://api.example.com", "", False),
        ("https://api.example.com", ",,.,", False),
        ("https://api.example.com", "example.com:443", True),
        ("https://api.example.com", "example.com:8443", False),
        ("https://api.example.com:8443", "example.com:8443", True),
        ("http://api.example.com", "https://example.com", False),
        ("https://api.example.com", "https://example.com", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.0.0.0/99", False),
        ("http://api.example.com", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3:80", True),
        ("http://[::1]:8880", "::1", True),
        ("http://[::1]:8880", "[::1]", True),
        ("http://[::1]:8880", "[::1]:8880", True),
        ("http://[::1]:8880", "[::1]:80", False),
        ("http://[fd00::5]", "fd00::/8", True),
        ("http://[0:0:0:0:0:0:0:1]", "::1", True),
        ("http://localhost:8880", "localhost", True),
        ("http://localhost:8880", "127.0.0.1", False),
        ("wss://api.example.com", "example.com:443", True),
    ],
)
def test_no_proxy_entries_match(url: str, no_proxy: str, without: bool) -> None:
    assert matches_no_proxy(url, no_proxy) is without


@kinds
async def test_tunnel_proxy_does_not_see_the_key(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(TTSError):
        await speak(kind, "https://127.0.0.1:1")
    assert proxy.heads[0].startswith("CONNECT 127.0.0.1:1 ")
    assert KEY not in proxy.heads[0]


@kinds
async def test_library_speaks_through_a_tunnel_with_a_password(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with proxy_on_a_socket("me:sesame") as proxy, Simulator(host="localhost", tls=True) as sim:
        monkeypatch.setenv("SSL_CERT_FILE", str(sim.ca_file))
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:sesame@127.0.0.1:{proxy.port}")
        async with AsyncTTSService([new_provider(kind, sim.url)], muted=False) as tts:
            for _ in range(2):
                assert (await tts.synthesize("Hello")).outcome == "spoken"
        assert proxy.tunnels == [sim.url.removeprefix("https://")], "the second request goes through the same"
        assert KEY not in proxy.heads[0]


async def test_command_uses_a_tunnel_to_a_vendor_with_tls(proxy: Proxy, tmp_path: Path) -> None:
    async with Simulator(host="localhost", tls=True) as sim:
        environ = {
            **{name: value for name, value in os.environ.items() if name.upper() not in VARIABLES},
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
            "SSL_CERT_FILE": str(sim.ca_file),
        }
        (tmp_path / "c.toml").write_text(f'[[providers]]\nkind = "elevenlabs"\napi_key = "k"\nbase_url = "{sim.url}"\n')
        arguments = ["say", "Hello", "-o", "a.mp3", "--config", "c.toml"]

        def run(**more: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [sys.executable, "-m", "steadyvoice", *arguments],
                cwd=tmp_path, env={**environ, **more}, capture_output=True, timeout=50,
            )  # fmt: skip

        ended = await asyncio.to_thread(run)
        assert ended.returncode == 0, ended.stderr.decode()
        assert proxy.tunnels == [sim.url.removeprefix("https://")]
        assert "xi-api-key" not in proxy.heads[0], "the key is for the vendor alone"

        ended = await asyncio.to_thread(run, NO_PROXY="localhost")
        assert ended.returncode == 0, ended.stderr.decode()
        assert len(proxy.tunnels) == 1
