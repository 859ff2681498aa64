"""Dialect of the refusals given before an endpoint is reached: no credential, no such path, no such method."""

from __future__ import annotations

from urllib.parse import quote

from steadyvoice.gateway.dialect import Words
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.guard import Denial, Room
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.own import OwnWords
from steadyvoice.gateway.paths import Route
from steadyvoice.gateway.reply import Reply
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech


def words_for(exchange: Exchange) -> Words:
    """Choose the dialect to refuse in: by the path, and where both vendors have it, by the kind of credential sent."""
    if exchange.room is not Room.SPEECH:
        return OwnWords()
    path: str = exchange.meant or exchange.scope["path"]
    if path.startswith("/v1/audio/"):
        return OpenAIDialect()
    if path.startswith(_ELEVENLABS_ONLY):
        return ElevenLabsDialect()
    return OpenAIDialect() if exchange.brings_bearer else ElevenLabsDialect()


_ELEVENLABS_ONLY = (
    elevenlabs_speech.SPEECH_PATH, elevenlabs_speech.VOICES_PATH, elevenlabs_speech.VOICES_V2_PATH,
    elevenlabs_speech.USER_PATH, elevenlabs_speech.HISTORY_PATH,
)  # fmt: skip


def refuse(denial: Denial, exchange: Exchange) -> Reply:
    """Make the answer to a request that is not let in."""
    return words_for(exchange).denied(denial, exchange.request_id)


def other_method(route: Route, exchange: Exchange) -> Reply | None:
    """Make the answer to a method that an endpoint does not have; None for a path without an endpoint."""
    if not route.doors:
        return None
    method, allowed = exchange.scope["method"], ", ".join(route.doors)
    if method == "OPTIONS":
        return Reply(204, headers={"allow": f"{allowed}, OPTIONS"})
    exchange.add_headers({"allow": allowed})
    told = f"{method[:20]} is not allowed here; use {allowed}"
    return refuse(Denial(405, "method_not_allowed", told), exchange)


def no_route(route: Route, exchange: Exchange) -> Reply:
    """Make the answer to a path without an endpoint. It names the endpoint that was probably meant."""
    method, path = exchange.scope["method"], exchange.scope["path"]
    if route.problem:
        return refuse(Denial(400, "invalid_path", route.problem), exchange)
    told = f"no route for {method[:20]} {_shown(path)}"
    if path.rstrip("/").endswith("stream-input"):
        told += ": websockets are not served; use POST /v1/text-to-speech/{voice_id}/stream"
    elif meant := route.suggestion:
        methods = route.suggested_methods
        use = method if method in methods else methods[0]
        filled = f" ({meant.filled})" if meant.filled != meant.path else ""
        told += f"; did you mean {use} {meant.path}{filled}?"
    else:
        told += "; GET /openapi.json lists every endpoint"
    return refuse(Denial(404, "not_found", told), exchange)


def _shown(path: str) -> str:
    """A client's path as it may be shown: percent-encoded, so that it can neither be markup nor hide what it is."""
    return quote(path[:200], safe="/:@!$()*,;=~-._", errors="replace")
