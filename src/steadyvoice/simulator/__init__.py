"""A vendor that fails on command: ElevenLabs and OpenAI over HTTP, with real audio, until told to misbehave.

from steadyvoice.simulator import Fault, Simulator, acts, words_in

async with Simulator(voice="tones") as sim:
    sim.faults.set(Fault(acts.Stall(after=0.8), nth=2))
    ...  # any ElevenLabs client, with base_url=sim.url
    assert sim.ledger.charged == 42
"""

from __future__ import annotations

from steadyvoice.audio.tones import words_in
from steadyvoice.simulator import acts, profiles
from steadyvoice.simulator.acts import FaultError
from steadyvoice.simulator.faults import Fault
from steadyvoice.simulator.ledger import Ending, Entry, Ledger
from steadyvoice.simulator.run import run
from steadyvoice.simulator.script import Script, ScriptError, load_script, read_script
from steadyvoice.simulator.settings import Settings
from steadyvoice.simulator.simulator import Simulator

__all__ = [
    "Ending",
    "Entry",
    "Fault",
    "FaultError",
    "Ledger",
    "Script",
    "ScriptError",
    "Settings",
    "Simulator",
    "acts",
    "load_script",
    "profiles",
    "read_script",
    "run",
    "words_in",
]
