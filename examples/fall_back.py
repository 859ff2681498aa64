"""Two voices behind circuits: the second speaks while the first is down.

Run it as it is: the first voice is one of ElevenLabs that nobody answers for, the second needs nothing.
"""

from __future__ import annotations

from pathlib import Path

from steadyvoice import CircuitBreakerConfig, ElevenLabs, Tone, TTSService


def main() -> None:
    """Speak four times, and tell what the caller heard and how the first voice is doing."""
    away = ElevenLabs("no-key-needed", base_url="http://127.0.0.1:9")  # the discard port: nobody listens
    with TTSService([away, Tone()], circuit=CircuitBreakerConfig.development()) as tts:
        for number in range(1, 5):
            speech = tts.synthesize(f"This is sentence number {number}.", format="wav_24000")
            Path(f"sentence-{number}.wav").write_bytes(speech.audio)
            asked = ", ".join(f"{a.provider} ({'refused' if a.refused else 'asked'})" for a in speech.attempts)
            print(f"{number}: {speech.outcome} by {speech.provider}, {speech.duration:.1f} s; {asked}")
        state = tts.get_error_state()
        print(f"elevenlabs: circuit {state['circuit_state']}, because {state['last_transition']['reason']}")


if __name__ == "__main__":
    main()
