"""Dialect of the refusals given before an endpoint is reached: no credential, no such path, no such method."""

from __future__ import annotations

from steadyvoice.gateway.dialect import Words
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.exchange import Exchange
from steadyvoice.gateway.guard import Denial, Room
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.own import OwnWords
from steadyvoice.gateway.paths import Route
from steadyvoice.gateway.reply import Reply


def words_for(exchange: Exchange) -> Words:
    """Choose the dialect to refuse in: by the path, and where both vendors have it, by the kind of credential sent."""
    if exchange.room is not Room.SPEECH:
        return OwnWords()
    openais = exchange.scope["path"].startswith("/v1/audio/") or exchange.brings_bearer
    return OpenAIDialect() if openais else ElevenLabsDialect()


def refuse(denial: Denial, exchange: Exchange) -> Reply:
    """Make the answer to a request that is not let in."""
    return words_for(exchange).denied(denial, exchange.request_id)


def no_route(route: Route, exchange: Exchange) -> Reply:
    """Make the answer to a path or method without an endpoint."""
    method, path = exchange.scope["method"], exchange.scope["path"]
    if route.problem:
        return refuse(Denial(400, "invalid_path", route.problem), exchange)
    if route.doors:
        allowed = ", ".join(route.doors)
        exchange.add_headers({"allow": allowed})
        told = f"{method[:20]} is not answered here, but {allowed}"
        return refuse(Denial(405, "method_not_allowed", told), exchange)
    told = f"nobody answers {method} {path[:200]} here"
    if path.endswith("stream-input"):
        told += ": websockets are not served, but POST /v1/text-to-speech/{voice_id}/stream is"
    return refuse(Denial(404, "not_found", told), exchange)
