"""Process that has imported what the command needs, and forks for each run of it: imports take most of a short run.

Each run has its own arguments, environment, directory and standard streams, and ends as the command does. What only a
new interpreter shows, such as closed standard streams and terminals, is tested with one: `Shell.start` and
`Shell.on_a_terminal`.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

_PIPE_BYTES = 65536
"""Bytes that Linux takes into a pipe before anybody reads them."""

_SERVER = """
import gc, json, os, socket, sys
import steadyvoice.cli.app, steadyvoice.cli.say, steadyvoice.cli.serve, steadyvoice.cli.sim, steadyvoice.cli.status
from steadyvoice.cli import main

with socket.socket(fileno=int(sys.argv[1])) as orders:
    gc.collect()
    gc.freeze()  # the end of each child would collect it, and copy its memory
    while True:
        line, streams, _, _ = socket.recv_fds(orders, 1 << 20, 3)
        if not line:
            sys.exit()
        child = os.fork()
        if not child:
            break
        for stream in streams:
            os.close(stream)
        orders.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

order = json.loads(line)
for number, stream in enumerate(streams):
    os.dup2(stream, number)
    os.close(stream)
os.chdir(order["folder"])
os.environ.clear()
os.environ.update(order["environment"])
sys.argv[1:] = order["arguments"]
main()
"""


@dataclass(frozen=True)
class CommandServer:
    """Server whose children are `steadyvoice`, one at a time."""

    process: subprocess.Popen[bytes]
    orders: socket.socket

    @classmethod
    def start(cls, environment: Mapping[str, str]) -> CommandServer:
        """Start a server that lasts as long as this process. It has read these variables when it imported modules."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-c", _SERVER, str(number)]
            process = subprocess.Popen(command, pass_fds=[number], env=environment, stdin=subprocess.DEVNULL)
        server = cls(process, ours)
        atexit.register(server.stop)
        return server

    def run(
        self, arguments: Sequence[str | bytes], folder: Path, environment: Mapping[str, str], stdin: bytes
    ) -> tuple[int, bytes, bytes]:
        """Run the command; return its exit status, output and errors."""
        assert len(stdin) <= _PIPE_BYTES
        given, out, error = os.pipe(), os.pipe(), os.pipe()
        order = {
            "arguments": [os.fsdecode(each) for each in arguments],
            "folder": str(folder),
            "environment": dict(environment),
        }
        socket.send_fds(self.orders, [json.dumps(order).encode()], [given[0], out[1], error[1]])
        for each in (given[0], out[1], error[1]):
            os.close(each)
        with open(given[1], "wb") as stream:
            stream.write(stdin)
        errors: list[bytes] = []
        with open(out[0], "rb") as output, open(error[0], "rb") as error_output:
            reader = Thread(target=lambda: errors.append(error_output.read()))
            reader.start()
            written = output.read()
            reader.join()
        return int(self.orders.recv(16)), written, errors[0]

    def stop(self) -> None:
        """End the server."""
        self.orders.close()
        self.process.wait()
