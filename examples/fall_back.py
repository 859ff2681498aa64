"""Failover: a second provider speaks while the first one is unreachable.

Runs without an API key: the first provider points to a port where no server listens, the second is the built-in tone.
"""

from __future__ import annotations

from pathlib import Path

from steadyvoice import CircuitBreakerConfig, ElevenLabs, Tone, TTSService


def main() -> None:
    """Synthesize four sentences; print each outcome and the state of the first provider's circuit."""
    unreachable = ElevenLabs("no-key-needed", base_url="http://127.0.0.1:9")  # the discard port
    with TTSService([unreachable, Tone()], circuit=CircuitBreakerConfig.development()) as tts:
        for number in range(1, 5):
            speech = tts.synthesize(f"This is sentence number {number}.", format="wav_24000")
            Path(f"sentence-{number}.wav").write_bytes(speech.audio)
            attempts = ", ".join(f"{a.provider} ({'refused' if a.refused else 'called'})" for a in speech.attempts)
            print(f"{number}: {speech.outcome} by {speech.provider}, {speech.duration:.1f} s; {attempts}")
        state = tts.get_error_state()
        print(f"elevenlabs: circuit {state['circuit_state']}, because {state['last_transition']['reason']}")


if __name__ == "__main__":
    main()
