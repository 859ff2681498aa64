"""Intelligibility of the local voices: words that a speech recogniser hears in an outage of the vendor.

The first provider refuses every connection; each local voice in turn stands in for it. CMU Pocketsphinx, which knows
neither the voices nor the texts, writes down what it hears. The word error rate is the number of words that were
replaced, left out or added, of those of the text.

Run: `make bench`, or `python benchmarks/intelligibility.py`. The first run installs the recogniser into
`benchmarks/.venv`. Takes about half a minute.
"""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
from pathlib import Path

from speed.own_venv import HOME, install_peers

from steadyvoice import AsyncTTSService, ElevenLabs, Espeak, Neural, Tone
from steadyvoice.providers.base import Provider

# Sentences of telephone services, with common words only: the recogniser's dictionary has all of them.
TEXTS = (
    "Good morning. Your appointment with the doctor is on Monday at ten o'clock.",
    "Please bring your passport and two photographs.",
    "The train to the airport leaves from platform four in twenty minutes.",
    "We are sorry for the delay, and thank you for your patience.",
    "Turn left at the next corner, then walk straight ahead for about five minutes.",
    "Your order has been shipped and will arrive on Thursday afternoon.",
    "If you would like to speak with one of our people, please stay on the line.",
    "The weather tomorrow will be cold and cloudy, with some rain in the evening.",
)


RECOGNISER_HOME = HOME.with_name(f"{HOME.name}-recogniser")

# Reads samples of one text, prints the words.
RECOGNISE = """
import sys
from pocketsphinx import Config, Decoder
recogniser = Decoder(Config(loglevel="FATAL"))
recogniser.start_utt()
recogniser.process_raw(sys.stdin.buffer.read(), full_utt=True)
recogniser.end_utt()
print(recogniser.hyp().hypstr if recogniser.hyp() else "")
"""


def main() -> None:
    if missing := install_peers(RECOGNISER_HOME, ["pocketsphinx"]):
        raise SystemExit(f"the recogniser cannot be installed: {missing['pocketsphinx']}")
    logging.getLogger("steadyvoice").setLevel(logging.ERROR)  # the outage is on purpose
    print("| stand-in | words | wrong | word error rate |\n|---|---|---|---|")
    for voice in (Neural(), Espeak(), Tone()):
        total, wrong = asyncio.run(_measure(voice))
        print(f"| {voice.name} | {total} | {wrong} | {wrong / total:.0%} |")


async def _measure(voice: Provider) -> tuple[int, int]:
    """Return the number of words spoken by a voice in an outage, and of those misunderstood."""
    dead = ElevenLabs("sk_an_outage", base_url="http://127.0.0.1:9")  # the discard port: refused at once
    service = AsyncTTSService(providers=[dead, voice], muted=False)
    total = wrong = 0
    try:
        for text in TEXTS:
            speech = await service.synthesize(text, format="pcm_16000")  # the rate that the recogniser expects
            spoken, heard = _words(text), _words(_recognise(speech.audio))
            total += len(spoken)
            wrong += edit_distance(spoken, heard)
    finally:
        await service.aclose()
    return total, wrong


def _recognise(samples: bytes) -> str:
    python = Path(RECOGNISER_HOME) / "bin" / "python"
    done = subprocess.run([python, "-c", RECOGNISE], input=samples, capture_output=True, check=True)
    return done.stdout.decode()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def edit_distance(spoken: list[str], heard: list[str]) -> int:
    """Return how many words must be replaced, left out or added to make one list of the other."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(spoken, 1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other))
    return row[-1]


if __name__ == "__main__":
    main()
