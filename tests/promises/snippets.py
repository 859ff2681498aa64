"""Running of examples: in an empty folder, without keys, configuration or network, behind a setup where one is named.

One process imports what examples use, and forks for each of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

SETUPS: Mapping[str, str] = MappingProxyType(
    {
        "classes": """
import os, threading
from steadyvoice import *
os.environ["ELEVENLABS_API_KEY"] = "sk_" + "0" * 48
""",
        "service": """
import asyncio, os
from pathlib import Path
from steadyvoice import *
tts = TTSService([Tone()])
text = "It rains. We stay at home."
Path("sorry.wav").write_bytes(tts.synthesize("Sorry.", format="wav_22050").audio)
os.environ["ELEVENLABS_API_KEY"] = "sk_" + "0" * 48
""",
        "turn": """
from steadyvoice import *
service = await AsyncTTSService([Tone()]).__aenter__()
turn = service.conversation().turn()
turn.push("It rains.")
""",
        "stream": """
import asyncio
from steadyvoice import *
service = await AsyncTTSService([Tone()]).__aenter__()
stream = service.stream("It rains. We stay at home.")
""",
        "tracer": """
from opentelemetry import trace
from steadyvoice import *
ElevenLabs, Espeak = Tone, lambda: Tone(name="local")
tracer = trace.get_tracer("application")
""",
        "clients": """
from elevenlabs import ElevenLabs
from openai import OpenAI
""",
        "language model": """
from types import SimpleNamespace as Some

async def create(**arguments):
    assert arguments["stream"]
    async def chunks():
        for word in ("It ", None, "rains."):
            yield Some(choices=[Some(delta=Some(content=word))])
    return chunks()

client = Some(chat=Some(completions=Some(create=create)))
""",
    }
)
"""What stands before a piece of code that is shown without it, by name."""

# Examples may connect to a server that they started themselves, and to no other.
TEMPLATE = """
import ast, asyncio, gc, inspect, json, os, signal, sys, types, warnings
import av, elevenlabs, openai, steadyvoice.gateway, steadyvoice.simulator, steadyvoice.testing

def refuse_network(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect":
        host = args[1][0] if isinstance(args[1], tuple) else None
    else:
        return
    if host not in (None, "localhost", "127.0.0.1", "::1"):
        raise RuntimeError(f"an example needs the network: {host}")

gc.collect()
gc.freeze()  # the end of each child would collect it, and copy its memory
for line in sys.stdin:
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

signal.alarm(60)
order = json.loads(line)
os.chdir(order["folder"])
os.environ.clear()
os.environ.update(order["environment"])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.open("printed.txt", os.O_WRONLY | os.O_CREAT), 1)
os.dup2(1, 2)
warnings.simplefilter("error")
sys.addaudithook(refuse_network)
main = sys.modules["__main__"] = types.ModuleType("__main__")
main.__file__ = "example.py"
with open("example.py") as file:
    text = file.read()
code = compile(text, "example.py", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code, vars(main)))
else:
    exec(code, vars(main))
"""


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """Exit status of an example, and all that it printed."""

    status: int
    printed: str


@dataclass(frozen=True, slots=True)
class ExampleRunner:
    """Process that forks for each example."""

    process: subprocess.Popen[str]

    def run(self, code: str, folder: Path) -> ExampleResult:
        (folder / "example.py").write_text(code, "utf-8")
        secret_or_own = re.compile(r"STEADYVOICE|ELEVENLABS|OPENAI|KEY|TOKEN|SECRET")
        kept = {name: value for name, value in os.environ.items() if not secret_or_own.search(name)}
        order = {"folder": str(folder), "environment": kept | {"HOME": str(folder)}}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{json.dumps(order)}\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return ExampleResult(status, (folder / "printed.txt").read_text("utf-8"))


@contextmanager
def example_runner() -> Iterator[ExampleRunner]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", TEMPLATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield ExampleRunner(process)
