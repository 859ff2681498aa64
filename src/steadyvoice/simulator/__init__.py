"""Simulator of ElevenLabs and OpenAI-compatible speech servers, with real audio and fault injection.

from steadyvoice.simulator import Fault, Simulator, actions, words_in

async with Simulator(voice="tones") as sim:
    sim.faults.set(Fault(actions.Stall(after=0.8), nth=2))
    ...  # any ElevenLabs client, with base_url=sim.url
    assert sim.ledger.charged == 42
"""

from __future__ import annotations

from steadyvoice.audio.word_tones import words_in
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import FaultError
from steadyvoice.simulator.fault_injection.matching import Fault
from steadyvoice.simulator.ledger import Ending, LedgerEntry, RequestLedger
from steadyvoice.simulator.script import (
    Script,
    ScriptError,
    SimulatorSettings,
    load_profile,
    load_script,
    profile_names,
    read_script,
)
from steadyvoice.simulator.simulator import Simulator, run

__all__ = [
    "Ending",
    "Fault",
    "FaultError",
    "LedgerEntry",
    "RequestLedger",
    "Script",
    "ScriptError",
    "Simulator",
    "SimulatorSettings",
    "actions",
    "load_profile",
    "load_script",
    "profile_names",
    "read_script",
    "run",
    "words_in",
]
