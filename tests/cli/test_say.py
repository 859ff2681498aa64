"""`steadyvoice say`, each time in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import wave

import pytest

from steadyvoice.audio.word_tones import words_in

from .conftest import Simulator
from .shell import COMMAND, Shell, one_provider, stopped


def test_wav_file_has_the_exact_length(shell: Shell) -> None:
    ended = shell.run("say", "Hello, how are you?", "-o", "hello.wav", "--provider", "tone")
    assert (ended.status, ended.out) == (0, b"")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("spoken: ")
    assert "tone" in ended.err
    file = shell.folder / "hello.wav"
    with wave.open(str(file)) as audio:
        assert (audio.getnchannels(), audio.getsampwidth(), audio.getframerate()) == (1, 2, 24000)
        assert audio.getnframes() * 2 == file.stat().st_size - 44
        assert words_in(audio.readframes(audio.getnframes()), "pcm_24000") == ["Hello,", "how", "are", "you?"]
    assert file.read_bytes()[4:8] == (file.stat().st_size - 8).to_bytes(4, "little")
    assert shell.files == {"hello.wav"}


def test_local_voice_is_used_without_api_keys(shell: Shell) -> None:
    ended = shell.run("say", "Hello", "-o", "hello.wav")
    assert ended.status == 0
    with wave.open(str(shell.folder / "hello.wav")) as audio:
        assert any(audio.readframes(audio.getnframes()))


def test_pipe_gets_only_audio(shell: Shell) -> None:
    ended = shell.run("say", "-", "--format", "pcm_24000", "--provider", "tone", stdin="Grüß Gott".encode())
    assert ended.status == 0
    assert words_in(ended.out, "pcm_24000") == ["Grüß", "Gott"]
    assert ended.err.startswith("spoken: ")


def test_pipe_gets_mp3_by_default(shell: Shell) -> None:
    ended = shell.run("say", "Hello", "--provider", "tone")
    assert ended.out[:2] == b"\xff\xfb"  # an MPEG-1 layer III frame


def test_format_option_overrides_the_extension(shell: Shell) -> None:
    assert shell.run("say", "Hello", "-o", "a.wav", "--format", "flac", "--provider", "tone").status == 0
    assert (shell.folder / "a.wav").read_bytes()[:4] == b"fLaC"


def test_minus_writes_to_standard_output(shell: Shell) -> None:
    assert shell.run("say", "Hello", "-o", "-", "--format", "wav", "--provider", "tone").out[:4] == b"RIFF"


def test_named_pipe_is_written_and_not_replaced(shell: Shell) -> None:
    pipe = shell.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    ended = shell.run("say", "Hello", "-o", "pipe", "--format", "pcm_8000", "--provider", "tone")
    heard = os.read(reader, 65536)
    os.close(reader)
    assert ended.status == 0
    assert words_in(heard, "pcm_8000") == ["Hello"]
    assert pipe.is_fifo()


def test_symbolic_link_is_kept(shell: Shell) -> None:
    (shell.folder / "real.wav").touch(0o640)
    (shell.folder / "link.wav").symlink_to("real.wav")
    assert shell.run("say", "Hello", "-o", "link.wav", "--provider", "tone").status == 0
    assert (shell.folder / "link.wav").is_symlink()
    assert (shell.folder / "real.wav").read_bytes()[:4] == b"RIFF"
    assert (shell.folder / "real.wav").stat().st_mode & 0o777 == 0o640


def test_substitution_is_a_success_and_is_reported(shell: Shell, closed_port: str) -> None:
    shell.write("two.toml", one_provider(base_url=closed_port) + '\n[[providers]]\nkind = "tone"\n')
    ended = shell.run("say", "Hello", "--config", "two.toml", "-o", "a.wav")
    assert ended.status == 0
    assert ended.err.count("\n") == 1
    assert "substituted: " in ended.err
    assert "by tone" in ended.err
    assert "elevenlabs: no connection" in ended.err


def test_tones_say_how_to_get_speech_unless_they_were_chosen(shell: Shell) -> None:
    shell.write("tone.toml", '[[providers]]\nkind = "tone"\n')
    ended = shell.run("say", "Hello", "--config", "tone.toml", "-o", "a.wav")
    assert "by tone in a.wav; these are tones: for speech, set ELEVENLABS_API_KEY" in ended.err
    chosen = shell.run("say", "Hello", "--provider", "tone", "-o", "a.wav")
    assert chosen.err.endswith("by tone in a.wav\n")


def test_file_has_no_audio_of_a_provider_that_broke_off(shell: Shell, simulator: Simulator) -> None:
    shell.write("cut.toml", '[[faults]]\nfault = "cut"\nafter = 1.0\n')
    url = simulator("--script", "cut.toml")
    shell.write("two.toml", one_provider(base_url=url) + '\n[[providers]]\nkind = "tone"\n')
    text = "Every word of this is said by the second voice, and none of it twice."
    ended = shell.run("say", text, "--config", "two.toml", "-o", "a.wav")
    assert ended.status == 0
    assert "substituted: " in ended.err
    assert words_in((shell.folder / "a.wav").read_bytes(), "wav_24000") == text.split()


@pytest.mark.parametrize("selected", ["tone", "backup"])
def test_provider_is_selected_by_name_or_kind(shell: Shell, closed_port: str, selected: str) -> None:
    shell.write("two.toml", one_provider(base_url=closed_port) + '\n[[providers]]\nname = "backup"\nkind = "tone"\n')
    ended = shell.run("say", "Hello", "--config", "two.toml", "-o", "a.wav", "--provider", selected)
    assert ended.status == 0
    assert "spoken: " in ended.err
    assert "by backup" in ended.err


def test_muted_text_is_silence_with_exit_status_3(shell: Shell, closed_port: str) -> None:
    shell.write("one.toml", one_provider(base_url=closed_port))
    ended = shell.run("say", "Nobody hears this.", "--config", "one.toml", "-o", "a.wav")
    assert ended.status == 3
    assert "muted: no provider could speak" in ended.err
    assert "elevenlabs: no connection" in ended.err
    assert "sk_a_secret" not in ended.err
    with wave.open(str(shell.folder / "a.wav")) as audio:
        frames = audio.readframes(audio.getnframes())
        assert len(frames) / 2 / audio.getframerate() == pytest.approx(18 * 0.06, abs=0.01)
        assert not any(frames)


def test_failure_keeps_the_former_file(shell: Shell, closed_port: str) -> None:
    shell.write("one.toml", one_provider(base_url=closed_port, extra={"fallback": "muted = false"}))
    shell.write("a.wav", "precious")
    ended = shell.run("say", "Hello", "--config", "one.toml", "-o", "a.wav")
    assert ended.status == 4
    assert ended.err.startswith("network error: elevenlabs: no connection")
    assert "check the network" in ended.err
    assert "Traceback" not in ended.err
    assert (shell.folder / "a.wav").read_text() == "precious"
    assert shell.files == {"one.toml", "a.wav"}


def test_traceback_is_shown_with_debug_only(shell: Shell, closed_port: str) -> None:
    shell.write("one.toml", one_provider(base_url=closed_port, extra={"fallback": "muted = false"}))
    ended = shell.run("say", "Hello", "--config", "one.toml", "-o", "a.wav", "--debug")
    assert ended.status == 4
    assert "Traceback" in ended.err
    assert "sk_a_secret" not in ended.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_no_files_behind(
    shell: Shell, silent_server: socket.socket, number: signal.Signals, status: int
) -> None:
    shell.write("one.toml", one_provider(base_url=f"http://127.0.0.1:{silent_server.getsockname()[1]}"))
    process = shell.start("say", "Hello", "--config", "one.toml", "-o", "a.wav")
    connection, _ = silent_server.accept()
    with connection:
        connection.recv(1)  # now it waits for an answer
        ended = stopped(process, number)
    assert ended.status == status
    assert ended.err == ""
    assert shell.files == {"one.toml"}


def test_closed_pipe_ends_quietly(shell: Shell) -> None:
    long = "A sentence that goes on and on. " * 200
    with subprocess.Popen(
        [*COMMAND, "say", long, "--format", "wav", "--provider", "tone"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=shell.folder,
        env=shell.environ,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_terminal_output_is_played(shell: Shell) -> None:
    shell.install("ffplay", "cat > played")
    ended = shell.on_a_terminal("say", "Hello you", "--provider", "tone")
    assert ended.status == 0
    played = (shell.folder / "played").read_bytes()
    assert played[:4] == b"RIFF"
    assert words_in(played[44:], "pcm_24000") == ["Hello", "you"]


def test_missing_player_is_reported(shell: Shell) -> None:
    ended = shell.on_a_terminal("say", "Hello", "--provider", "tone")
    assert ended.status == 2
    assert "ffplay" in ended.err
    assert "-o speech.mp3" in ended.err


def test_audio_is_played_and_written(shell: Shell) -> None:
    shell.install("paplay", 'echo "$@" > how; cat > played')
    ended = shell.run("say", "Hello you", "--provider", "tone", "-o", "a.flac", "--play")
    assert (ended.status, ended.out) == (0, b"")
    assert (shell.folder / "a.flac").read_bytes()[:4] == b"fLaC"
    assert "--rate=24000" in (shell.folder / "how").read_text()
    assert words_in((shell.folder / "played").read_bytes(), "pcm_24000") == ["Hello", "you"]


def test_player_that_needs_a_file_gets_a_complete_one(shell: Shell) -> None:
    shell.install("afplay", 'cp "$1" played')
    assert shell.run("say", "Hello you", "--provider", "tone", "--play").status == 0
    with wave.open(str(shell.folder / "played")) as audio:
        assert words_in(audio.readframes(audio.getnframes()), "pcm_24000") == ["Hello", "you"]


def test_failed_player_is_named(shell: Shell) -> None:
    shell.install("aplay", "cat > /dev/null; exit 1")
    ended = shell.run("say", "Hello", "--provider", "tone", "--play")
    assert ended.status == 4
    assert "aplay" in ended.err
    assert "Traceback" not in ended.err


def test_progress_bar_is_shown_on_a_terminal_only(shell: Shell) -> None:
    long = "A sentence that goes on and on. " * 20
    assert "speaking" in shell.on_a_terminal("say", long, "--provider", "tone", "-o", "a.wav").err
    assert "speaking" not in shell.run("say", long, "--provider", "tone", "-o", "a.wav").err
