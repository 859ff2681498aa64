"""What the stories of broken streams are told with."""

from __future__ import annotations

from steadyvoice.speech.errors import TTSServerError

DOWN = TTSServerError("HTTP 503", status=503)
TALE = " ".join(f"This is sentence number {i}, and it is not the last one of them all." for i in range(12))
TEXT = "The rain has stopped. We walk home now, slowly, and nobody says a word."
