"""The gateway put together: routes, rooms, and the front door around them. An ASGI application."""

from __future__ import annotations

from collections.abc import Mapping

from steadyvoice.gateway.access import AccessLog
from steadyvoice.gateway.admin import BODIES, admin_doors
from steadyvoice.gateway.catalogue import Catalogue
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.front import Front
from steadyvoice.gateway.guard import Room
from steadyvoice.gateway.house import House
from steadyvoice.gateway.lists import list_doors
from steadyvoice.gateway.metrics import Metrics
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.openapi import document
from steadyvoice.gateway.own import Health, Readiness
from steadyvoice.gateway.pages import page_doors
from steadyvoice.gateway.paths import Doors, RouteTable
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.reply import json_reply
from steadyvoice.gateway.reporter import Reporter
from steadyvoice.gateway.speech import SpeechDoor
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.speech import SpeechEndpoint
from steadyvoice.wire.openai import speech as openai_speech


def application(house: House, reloader: Reloader | None = None) -> Front:
    """Build the gateway. Whoever builds it opens the service before and closes it after."""
    return Front(house, RouteTable(all_doors(house, reloader or Reloader(house))))


def all_doors(house: House, reloader: Reloader) -> dict[Room, Mapping[str, Doors]]:
    """Return every endpoint by its path and method, in the room whose credential it needs."""
    metrics, reporter, access = Metrics(house), Reporter(house), AccessLog(house)
    house.watchers += [metrics, reporter, access]
    house.turned_away = access.turned_away
    return {
        Room.SPEECH: {**_speech_doors(house), **list_doors(Catalogue(house))},
        Room.ADMIN: admin_doors(house, reporter.calls, reporter.board, reloader),
        Room.METRICS: {"/metrics": {"GET": metrics}},
        Room.PUBLIC: {
            "/healthz": {"GET": Health()},
            "/readyz": {"GET": Readiness(house)},
            "/openapi.json": {"GET": json_reply(document(BODIES, house.service.circuits))},
        },
        Room.PAGE: {path: {"GET": page} for path, page in page_doors().items()},
    }


def _speech_doors(house: House) -> dict[str, Doors]:
    doors: dict[str, Doors] = {openai_speech.SPEECH_PATH: {"POST": SpeechDoor(house, OpenAIDialect())}}
    for form in SpeechEndpoint:
        path = f"{elevenlabs_speech.SPEECH_PATH}/{{voice_id}}{form.value}"
        doors[path] = {"POST": SpeechDoor(house, ElevenLabsDialect(form))}
    return doors
