"""PyAV is imported only for work that needs a codec."""

from __future__ import annotations

import subprocess
import sys

import pytest

READY = "from steadyvoice.speech.format import AudioFormat as F; pcm = bytes(960); parse = F.parse; "


@pytest.mark.parametrize(
    "work",
    [
        "import steadyvoice.audio.validation, steadyvoice.audio.conversion, steadyvoice.audio.word_tones",
        "from steadyvoice.audio.conversion import convert; convert(pcm, parse('pcm_24000'), parse('wav_24000'))",
        "from steadyvoice.audio.conversion import Converter; Converter(parse('mp3'), parse('mp3')).feed(pcm)",
        "from steadyvoice.audio.conversion import Converter; Converter(parse('mp3'), parse('pcm')).feed(pcm)",
        "from steadyvoice.audio.framing import AudioMeter; AudioMeter(parse('mp3')).feed(pcm)",
        "from steadyvoice.audio.word_tones import synthesize_tones; synthesize_tones('hello', sample_rate=8000)",
        "from steadyvoice.audio.conversion import silence; list(silence(parse('wav'), 1.0))",
    ],
)
def test_pyav_is_not_imported_for(work: str) -> None:
    code = f"{READY}{work}; import sys; sys.exit('av' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
