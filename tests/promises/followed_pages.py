"""Pages that are followed to the letter: files are written, commands run and output compared as the page says.

A comment above a fence says what a reader does with it:

    <!-- install -->          commands that install something; only where an environment of its own is asked for
    <!-- file: NAME -->       the file is written
    <!-- follow -->           the commands are typed
    <!-- terminal: NAME -->   the command is typed into another terminal, where it stays until the page ends
    <!-- prints -->           the commands before printed these lines, among others; `...` stands for anything

A paragraph `<!-- stop: NAME -->` is Ctrl-C in that terminal. From `<!-- needs: MODULE -->` on, a page is followed only
where that module is installed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PORTS = {"8040": "gateway", "8041": "simulator", "8000": "application"}
"""Ports that the pages name. Each run has free ones in their place, so that pages can be followed side by side."""

_STEP = re.compile(
    r"^<!-- (?P<verb>install|needs|follow|prints|file|terminal|stop)(?:: (?P<name>[\w.-]+))? -->$"
    r"(?:\n```\w*\n(?P<body>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
_READY = re.compile(r"https?://(?:127\.0\.0\.1|localhost):(\d+)")
_PATIENCE = 90.0
"""Seconds after which a server that does not listen, or commands that do not end, are a stumble."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader does."""

    line: int
    verb: str
    name: str
    body: str


def steps(text: str) -> Iterator[Step]:
    """Yield the steps of a page, in order."""
    for found in _STEP.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Step(line, found["verb"], found["name"] or "", found["body"] or "")


class Stumble(AssertionError):
    """Step of a page that does not do what the page says."""


@dataclass
class PageFollower:
    """Newcomer in a directory, with terminals.

    `ports` replaces the ports that the page names. With `checkout`, a folder of the repository, the commands that
    install something are typed as well, and nothing is there before; without, this environment's packages are there.
    """

    directory: Path
    ports: Mapping[str, str] = field(default_factory=dict)
    checkout: Path | None = None
    _terminals: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _printed: str = ""
    _folder: str = ""

    def follow(self, page: Path) -> None:
        """Do all that a page says; raise `Stumble` at the first step that fails."""
        try:
            for step in steps(page.read_text("utf-8")):
                if step.verb == "needs" and not (self.checkout or is_installed(step.name)):
                    break
                self._take(step, f"{page.name}:{step.line}")
        finally:
            for name in list(self._terminals):
                self._stop(name)

    def _take(self, step: Step, place: str) -> None:
        body = self._with_ports(step.body)
        match step.verb:
            case "file":
                (self._here / step.name).write_text(body, "utf-8")
            case "install" if self.checkout:
                self._type(
                    body.replace("pip install steadyvoice ", 'pip install "steadyvoice" ').replace(
                        '"steadyvoice', f'"{self.checkout}'
                    ),
                    place,
                )
            case "follow":
                self._type(body, place)
            case "terminal":
                self._start(step.name, body, place)
            case "stop":
                self._stop(step.name)
            case "prints":
                self._compare(body, place)

    @property
    def _here(self) -> Path:
        return self.directory / self._folder

    def _type(self, commands: str, place: str) -> None:
        # The shell's folder and variables last from block to block, as in a terminal.
        memory = self.directory / ".terminal"
        restore = f"[ -e {memory} ] && . {memory}\n"
        keep = f"\n{{ export -p; echo cd \\'$PWD\\'; }} > {memory}"
        done = subprocess.run(
            ["bash", "-e", "-c", f"{restore}{commands}{keep}"],
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900 if self.checkout else _PATIENCE,
            check=False,
        )
        self._printed = done.stdout.decode()
        if done.returncode:
            raise Stumble(f"{place}: exit status {done.returncode}\n{self._printed}{self._heard()}")
        where = memory.read_text("utf-8").rstrip().rpartition("cd '")[2].rstrip("'")
        self._folder = os.path.relpath(where, self.directory)

    def _start(self, name: str, command: str, place: str) -> None:
        memory = self.directory / ".terminal"
        log = self._log(name)
        with log.open("wb") as output:
            self._terminals[name] = subprocess.Popen(
                ["bash", "-c", f"[ -e {memory} ] && . {memory}\nexec {command}"],
                cwd=self.directory,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + _PATIENCE
        while not _listens(log.read_text("utf-8")):
            if self._terminals[name].poll() is not None or time.monotonic() > limit:
                raise Stumble(f"{place}: {command.strip()} does not listen\n{self._heard()}")
            time.sleep(0.02)

    def _stop(self, name: str) -> None:
        terminal = self._terminals.pop(name)
        if terminal.poll() is None:
            os.killpg(terminal.pid, signal.SIGINT)
            try:
                terminal.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(terminal.pid, signal.SIGKILL)
                terminal.wait()

    def _compare(self, expected: str, place: str) -> None:
        for line in expected.splitlines():
            pattern = ".*".join(map(re.escape, line.strip().split("...")))
            if not re.search(pattern, self._printed):
                raise Stumble(f"{place}: not printed: {line}\nbut\n{self._printed}{self._heard()}")

    def _with_ports(self, text: str) -> str:
        for port, replacement in self.ports.items():
            text = re.sub(rf"\b{port}\b", replacement, text)
        # Defaults that a page need not name.
        for command, option, port in (("serve", "--port ", "8040"), ("sim", "--port ", "8041")):
            if port in self.ports:
                text = re.sub(
                    rf"^(steadyvoice {command}\b)(?!.*--port)",
                    rf"\1 {option}{self.ports[port]}",
                    text,
                    flags=re.MULTILINE,
                )
        if "8040" in self.ports:
            url = f"http://127.0.0.1:{self.ports['8040']}"
            text = re.sub(r"^(steadyvoice status\b)(?!.*--url)", rf"\1 --url {url}", text, flags=re.MULTILINE)
        return text

    def _environment(self) -> dict[str, str]:
        secret_or_own = re.compile(r"STEADYVOICE|ELEVENLABS|OPENAI|KEY|TOKEN|SECRET|PROXY", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not secret_or_own.search(name)}
        path = kept.get("PATH", "")
        return kept | {
            "HOME": str(self.directory),
            "PATH": path if self.checkout else f"{Path(sys.executable).parent}{os.pathsep}{path}",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "160",
        }

    def _log(self, name: str) -> Path:
        return self.directory / f".{name}.log"

    def _heard(self) -> str:
        return "".join(f"\n[{name}]\n{self._log(name).read_text('utf-8')[-3000:]}" for name in self._terminals)


def is_installed(module: str) -> bool:
    """Tell whether a module could be imported; it is not."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent
        return False


def _listens(printed: str) -> bool:
    """Tell whether a server that printed this accepts connections at the address that it named."""
    found = _READY.search(printed)
    if not found:
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(found[1]))) == 0


def free_ports() -> dict[str, str]:
    """Return a free port in place of each that the pages name."""
    sockets = [socket.socket() for _ in PORTS]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {port: str(each.getsockname()[1]) for port, each in zip(PORTS, sockets, strict=True)}
    finally:
        for each in sockets:
            each.close()
