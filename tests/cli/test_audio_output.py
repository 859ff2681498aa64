"""Audio files, WAV headers, progress and players."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyvoice.audio.wav import wav_bytes, wav_header
from steadyvoice.cli.audio_output import FileSink, find_player, finishing, fix_wav_sizes
from steadyvoice.cli.say import estimate_progress
from steadyvoice.speech.format import AudioFormat


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_file_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("precious")
    sink = FileSink(path, AudioFormat.parse("wav"))
    async with finishing([sink]):
        await sink.write(wav_header(24000))
        await sink.write(bytes(4800))
        assert path.read_text() == "precious"
    with wave.open(str(path)) as audio:
        assert audio.getnframes() == 2400
    assert names_in(tmp_path) == ["a.wav"]


async def test_incomplete_file_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("precious")
    sink = FileSink(path, AudioFormat.parse("wav"))
    with pytest.raises(RuntimeError):
        await _break_off_in(sink)
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["a.wav"]


async def _break_off_in(sink: FileSink) -> None:
    async with finishing([sink]):
        await sink.write(bytes(100_000))
        raise RuntimeError


@given(st.integers(0, 5000).map(lambda samples: samples * 2))
def test_streamed_wav_header_is_corrected(size: int) -> None:
    early = wav_header(24000) + bytes(size)
    assert fix_wav_sizes(early, len(early)) == wav_bytes(bytes(size), 24000)


@given(st.binary(max_size=50), st.integers(1, 1000))
def test_wav_header_with_other_chunks_is_corrected(note: bytes, samples: int) -> None:
    plain = wav_header(8000)
    padded = note + b"\0" * (len(note) % 2)
    early = plain[:36] + b"LIST" + len(note).to_bytes(4, "little") + padded + plain[36:] + bytes(2 * samples)
    with wave.open(io.BytesIO(fix_wav_sizes(early, len(early)))) as audio:
        assert audio.getnframes() == samples


def test_correct_wav_header_is_kept() -> None:
    right = wav_bytes(b"\1\2" * 10, 8000) + b"LIST\4\0\0\0note"
    assert fix_wav_sizes(right, len(right)) == right


@given(st.binary(max_size=100))
def test_other_data_is_kept(head: bytes) -> None:
    assert len(fix_wav_sizes(head, len(head))) == len(head)


@given(st.floats(0, 1e4), st.just(0.0) | st.floats(0.01, 1e4), st.integers(0, 10_000), st.integers(1, 10_000))
def test_progress_is_a_share_below_one_before_the_end(
    seconds: float, spoken_seconds: float, spoken: int, of: int
) -> None:
    part = estimate_progress(seconds, spoken_seconds, spoken, of)
    assert 0 <= part <= 1
    assert (part == 1) == (spoken >= of)


def test_progress_uses_the_speech_rate_so_far() -> None:
    assert estimate_progress(30.0, 20.0, 200, 1000) == pytest.approx(0.3)
    assert estimate_progress(12.0, 0.0, 0, 1000) == pytest.approx(0.2)


def test_first_installed_player_is_used() -> None:
    there = {"mpv", "aplay"}
    player = find_player(lambda name: name if name in there else None)
    assert player is not None
    assert player.command[0] == "mpv"
    assert find_player(lambda name: None) is None
