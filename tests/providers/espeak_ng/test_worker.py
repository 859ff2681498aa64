"""Worker process of eSpeak NG, through its pipes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from steadyvoice.providers.espeak import is_installed, worker_command
from steadyvoice.providers.espeak_ng import worker
from steadyvoice.providers.espeak_ng.voices import EspeakFiles
from tests.required_tools import require_tool

require_tool(is_installed(), "espeakng-loader")

FILES = EspeakFiles.bundled()


def converse(
    requests: bytes, *, python_options: tuple[str, ...] = (), files: EspeakFiles | None = FILES
) -> subprocess.CompletedProcess[bytes]:
    assert files is not None
    program, *rest = worker_command(files)
    return subprocess.run(
        [program, *python_options, *rest], input=requests, capture_output=True, timeout=60, check=False
    )


def request(text: bytes, voice: bytes = b"en-us") -> bytes:
    return worker.REQUEST.pack(175, 50, False, len(voice), len(text)) + voice + text


def test_worker_exits_when_stdin_is_closed() -> None:
    ended = converse(b"")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_worker_exits_when_stdin_ends_within_a_request() -> None:
    ended = converse(request(b"Hello")[:7])

    assert (ended.returncode, ended.stdout) == (0, b"")


def test_unknown_voice_is_answered_without_audio() -> None:
    answer = converse(request(b"Hello", b"nobody") + request(b"Hello")).stdout

    assert worker.REPLY.unpack_from(answer) == (False, 0, 0)
    spoken, words, size = worker.REPLY.unpack_from(answer, worker.REPLY.size)
    assert (spoken, words) == (True, 1)
    assert size > 10_000
    assert len(answer) == 2 * worker.REPLY.size + words * worker.WORD.size + size


def test_library_output_reaches_neither_replies_nor_log() -> None:
    faroese = converse(request(b"Hello", b"fo"))  # listed in the wheel without its dictionary: espeak complains

    assert len(faroese.stdout) == sum(worker.REPLY.unpack_from(faroese.stdout)[2:]) + worker.REPLY.size
    assert faroese.stderr == b""


def test_missing_data_is_reported(tmp_path: Path) -> None:
    assert FILES is not None
    (tmp_path / "espeak-ng-data").mkdir()
    ended = converse(b"", files=EspeakFiles(FILES.library, tmp_path / "espeak-ng-data"))

    assert ended.returncode == 1
    assert f"libespeak-ng cannot use {tmp_path / 'espeak-ng-data'}" in ended.stderr.decode()


def test_worker_imports_only_the_standard_library() -> None:
    imported = converse(b"", python_options=("-X", "importtime")).stderr.decode()

    assert "ctypes" in imported
    for heavy in ("steadyvoice", "asyncio", "typing_extensions", "json", "espeakng_loader", "site\n"):
        assert heavy not in imported
