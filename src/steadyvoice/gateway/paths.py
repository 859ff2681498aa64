"""The speech doors' paths: found before any other is looked at, for they are what nearly all requests ask for."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from steadyvoice.gateway.methods import Door, Doors, Methods
from steadyvoice.gateway.reply import Receive, Scope, Send
from steadyvoice.wire import elevenlabs, openai
from steadyvoice.wire.elevenlabs import Form

_VOICE_PATH = f"{elevenlabs.SPEECH_PATH}/"
_RAW_VOICE_PATH = _VOICE_PATH.encode()


class SpeechPaths:
    """An ASGI application: of all doors by path the speech doors, and behind them `others` for everything else."""

    def __init__(self, doors: Mapping[str, Doors], others: Door) -> None:
        self._openai = Methods(doors[openai.SPEECH_PATH])
        self._forms = {form.value: Methods(doors[f"{_VOICE_PATH}{{voice_id}}{form.value}"]) for form in Form}
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        door = self._others
        if path.startswith(_VOICE_PATH):
            voice, form = _voice_and_form(path, scope.get("raw_path", b""))
            if voice and (found := self._forms.get(form)):
                scope["path_params"] = {"voice_id": voice}
                door = found
        elif path == openai.SPEECH_PATH:
            scope["path_params"] = {}
            door = self._openai
        await door(scope, receive, send)


def _voice_and_form(path: str, raw: bytes) -> tuple[str, str]:
    """What is behind `_VOICE_PATH`. A slash that was quoted is one of the voice's name, which may be the operator's."""
    if b"%" in raw and raw.startswith(_RAW_VOICE_PATH):
        voice, slash, form = raw.decode("latin-1")[len(_VOICE_PATH) :].partition("/")
        return unquote(voice), unquote(slash + form)
    voice, slash, form = path[len(_VOICE_PATH) :].partition("/")
    return voice, slash + form
