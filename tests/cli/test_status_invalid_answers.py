"""`steadyvoice status` with answers of other servers: one line, without escape sequences."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .shell import Shell

NONSENSE = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"providers":' * 5000 + b"1" + b"}" * 5000,
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "a long number": b"9" * 10_000,
    "another shape": b'{"providers": [1, 2]}',
    "deep within": b'{"providers": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "no state": b'{"providers": {"a": {"state": {}}}}',
    "no JSON": b"<html>",
    "no text": b"\xff\xfe\xfd",
    "nothing": b"",
}


@contextmanager
def answering(body: bytes, status: int = 200, *, endless: bool = False) -> Iterator[str]:
    """Run a server that answers every request with these bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)
            while endless:
                try:
                    self.wfile.write(b" " * 1_000_000)
                except OSError:
                    return

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", NONSENSE)
def test_invalid_answer_is_not_taken_for_a_gateway(kind: str, shell: Shell) -> None:
    with answering(NONSENSE[kind]) as url:
        for arguments in ((), ("--json",)):
            ended = shell.run("status", "--url", url, *arguments)
            assert (ended.status, ended.out) == (4, b""), arguments
            assert ended.err.startswith(f"system error: {url} is not a steadyvoice gateway")
            assert "Traceback" not in ended.err


def test_endless_answer_is_not_read_to_the_end(shell: Shell) -> None:
    with answering(b"[", endless=True) as url:
        ended = shell.run("status", "--url", url)
        assert (ended.status, "is not a steadyvoice gateway" in ended.err) == (4, True)


def test_escape_sequences_are_not_printed(shell: Shell) -> None:
    odd = "a\ud800\x1b[2J\x9b31m\u202eb"
    refusal = json.dumps({"error": {"message": odd}}).encode()
    with answering(refusal, 403) as url:
        ended = shell.run("status", "--url", url)
        assert ended.status == 2
        assert ended.err.rstrip("\n").isprintable()
    state = {"circuit_state": "closed", "is_muted": False, "why": odd}
    with answering(json.dumps({"providers": {odd: state}}).encode()) as url:
        ended = shell.run("status", "--url", url, "--json")
        assert ended.status == 0
        assert ended.out.isascii()
        assert b"\x1b" not in ended.out
        assert json.loads(ended.out)["providers"] == {odd: state}


@pytest.mark.parametrize(
    "url", [b"http://\xff", b"http://127.0.0.1:9/\xff", b"http://127.0.0.1:9/ /", b"http://a\x1b[2J"]
)
def test_invalid_url_is_a_usage_error(url: bytes, shell: Shell) -> None:
    ended = shell.run("status", "--url", url)
    assert (ended.status, "--url: must be like" in ended.err) == (2, True)


@pytest.mark.parametrize("token", ["a\n", "\udcff", "ü", "\x1b"])
def test_invalid_token_is_a_usage_error(token: str, shell: Shell) -> None:
    shell.environ["STEADYVOICE_ADMIN_TOKEN"] = token
    ended = shell.run("status", "--url", "http://127.0.0.1:9")
    assert (ended.status, "STEADYVOICE_ADMIN_TOKEN" in ended.err) == (2, True)
    assert "ü" not in ended.err
