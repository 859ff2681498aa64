"""The gateways side by side: nginx, LiteLLM, and ours in three states, each on a port of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from proxy import processes
from proxy.vendor import SLIM, TEXT

CORE, OTHERS = 0, 1
VOICE = "JBFqnCBsd6RMkjVDRZzb"
ELEVENLABS = f"/v1/text-to-speech/{VOICE}/stream"
HALF_SECONDS = f"{ELEVENLABS}?output_format={SLIM}"
"""Asks for the audio whose chunks are half a second long."""
KEY = "no-secret"
NGINX, NGINX_LARGE = "nginx", "nginx, 64 KiB buffers"
_NO_KEY = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"  # on this machine only


@dataclass
class Gateway:
    """Running gateway, and the request to send to it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    path: str = ELEVENLABS
    body: Mapping[str, Any] = field(default_factory=lambda: {"text": TEXT})

    @property
    def pids(self) -> list[int]:
        return processes.family(self.process.pid)


def free_port() -> int:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def nginx(home: Path, vendor: int, path: str = ELEVENLABS, *, large_buffers: bool = False) -> Gateway:
    """Start nginx as documented for streams: kept connections to the vendor, and no buffering.

    With its default buffer of one page it takes an answer of 33 KB in many pieces. Large buffers, of 64 KiB, make it
    twice as fast at saturation, and cost memory for each stream.
    """
    buffers = "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;" if large_buffers else ""
    port = free_port()
    folders = "".join(
        f"{name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log; worker_rlimit_nofile 16384;\n"
        f"events {{ worker_connections 8192; }}\nhttp {{ access_log off; {folders}\n"
        f"upstream vendor {{ server 127.0.0.1:{vendor}; keepalive 2048; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://vendor;\n"
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; '
        f"{buffers} }} }} }}\n"
    )
    command = [str(shutil.which("nginx")), "-c", str(home / "nginx.conf"), "-p", str(home), "-e", str(home / "e.log")]
    return _ready(
        Gateway(NGINX_LARGE if large_buffers else NGINX, port, processes.begin(command, CORE, home / "nginx.out"), path)
    )


def litellm(home: Path, vendor: int, command: Path) -> Gateway:
    """Start LiteLLM's proxy with the vendor as OpenAI, and one worker as all gateways."""
    port = free_port()
    parameters = {"model": "openai/tts-1", "api_base": f"http://127.0.0.1:{vendor}/v1", "api_key": KEY}
    config = {"model_list": [{"model_name": "tts-1", "litellm_params": parameters}]}
    (home / "litellm.yaml").write_text(json.dumps(config))  # which is YAML as well
    where = ["--config", str(home / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", _NO_KEY: "true"}
    process = processes.begin([str(command), *where], CORE, home / "litellm.out", env=quiet)
    body = {"model": "tts-1", "input": TEXT, "voice": "alloy", "response_format": "mp3"}
    return _ready(Gateway("LiteLLM", port, process, "/v1/audio/speech", body), within=600.0)


def ours(
    home: Path,
    vendor: int,
    name: str,
    *,
    resume: bool = False,
    behind: int | None = None,
    path: str = ELEVENLABS,
    core: int | None = CORE,
    workers: int = 1,
) -> Gateway:
    """Start steadyvoice with the vendor as ElevenLabs, and another one `behind` it if its port is given."""
    port = free_port()
    urls = [f"http://127.0.0.1:{each}" for each in ([] if behind is None else [behind]) + [vendor]]
    providers = [
        f'[[providers]]\nname = "vendor-{index}"\nkind = "elevenlabs"\nbase_url = "{url}"\napi_key = "{KEY}-{index}"\n'
        for index, url in enumerate(urls)
    ]
    config = home / f"{port}.toml"
    midstream = "resume" if resume else "error"
    head = f'[server]\naccess_log = false\n[fallback]\nmuted = false\non_midstream = "{midstream}"\n'
    config.write_text(head + "".join(providers))
    command = [sys.executable, "-m", "steadyvoice", "serve", "--config", str(config), "--port", str(port)]
    command += ["--workers", str(workers)]
    gateway = _ready(Gateway(name, port, processes.begin(command, core, home / f"{port}.out"), path))
    # The circuit of the vendor that is down opens before anything is measured: the steady state counts.
    if behind not in (None, vendor):
        _until(lambda: _circuit(gateway, "vendor-0") == "open", lambda: _speak(gateway), 60.0)
    return gateway


def _ready(gateway: Gateway, within: float = 30.0) -> Gateway:
    try:
        # A gateway that listens may not speak yet; the first answers also fill its caches.
        _until(lambda: _speak(gateway) > 30_000, lambda: time.sleep(0.2), within)
    except BaseException:
        processes.end(gateway.process)
        raise
    processes.prioritize(gateway.pids)
    return gateway


def _until(condition: Callable[[], bool], action: Callable[[], object], within: float) -> None:
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("a gateway does not come up")
        action()


def _speak(gateway: Gateway) -> int:
    """Bytes of audio that it gives for a text."""
    headers = {"content-type": "application/json", "authorization": "Bearer k", "xi-api-key": "k"}
    data = json.dumps(gateway.body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{gateway.port}{gateway.path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return len(answer.read())
    except (OSError, HTTPException):
        return 0


def _circuit(gateway: Gateway, provider: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/readyz", timeout=5) as answer:
            return str(json.loads(answer.read())["providers"][provider]["circuit_state"])
    except OSError:
        return ""
