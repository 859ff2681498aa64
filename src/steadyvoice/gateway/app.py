"""The gateway put together: routes, rooms, and the front door around them. An ASGI application."""

from __future__ import annotations

from starlette.routing import Route, Router

from steadyvoice.gateway.access import AccessLog
from steadyvoice.gateway.admin import BODIES, admin_doors
from steadyvoice.gateway.catalogue import Catalogue
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.front import Front, NobodyHome
from steadyvoice.gateway.house import House
from steadyvoice.gateway.lists import list_doors
from steadyvoice.gateway.methods import Doors, Methods
from steadyvoice.gateway.metrics import Metrics
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.openapi import document
from steadyvoice.gateway.own import Health, Readiness
from steadyvoice.gateway.pages import page_doors
from steadyvoice.gateway.paths import SpeechPaths
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.reply import json_reply
from steadyvoice.gateway.reporter import Reporter
from steadyvoice.gateway.speech import SpeechDoor
from steadyvoice.wire import elevenlabs, openai
from steadyvoice.wire.elevenlabs import Form


def application(house: House, reloader: Reloader | None = None) -> Front:
    """Build the gateway. Whoever builds it opens the service before and closes it after."""
    doors = all_doors(house, reloader or Reloader(house))
    routes = [Route(path, Methods(each)) for path, each in doors.items()]
    return Front(house, SpeechPaths(doors, Router(routes, redirect_slashes=False, default=NobodyHome())))


def all_doors(house: House, reloader: Reloader) -> dict[str, Doors]:
    """Every path, and who answers there to which method."""
    return {**_speech_doors(house), **list_doors(Catalogue(house)), **_own_doors(house, reloader)}


def _speech_doors(house: House) -> dict[str, Doors]:
    doors: dict[str, Doors] = {openai.SPEECH_PATH: {"POST": SpeechDoor(house, OpenAIDialect())}}
    for form in Form:
        path = f"{elevenlabs.SPEECH_PATH}/{{voice_id}}{form.value}"
        doors[path] = {"POST": SpeechDoor(house, ElevenLabsDialect(form))}
    return doors


def _own_doors(house: House, reloader: Reloader) -> dict[str, Doors]:
    metrics, reporter, access = Metrics(house), Reporter(house), AccessLog(house)
    house.watchers += [metrics, reporter, access]
    house.turned_away = access.turned_away
    return {
        "/healthz": {"GET": Health()},
        "/readyz": {"GET": Readiness(house)},
        "/metrics": {"GET": metrics},
        "/openapi.json": {"GET": json_reply(document(BODIES, house.service.circuits))},
        **{path: {"GET": page} for path, page in page_doors().items()},
        **admin_doors(house, reporter.calls, reporter.board, reloader),
    }
