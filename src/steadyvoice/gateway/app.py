"""The gateway put together: routes, rooms, and the front door around them. An ASGI application."""

from __future__ import annotations

from starlette.routing import Route, Router

from steadyvoice.gateway.access import AccessLog
from steadyvoice.gateway.admin import admin_doors
from steadyvoice.gateway.catalogue import Catalogue
from steadyvoice.gateway.elevenlabs import ElevenLabsDialect
from steadyvoice.gateway.front import Front, NobodyHome
from steadyvoice.gateway.house import House
from steadyvoice.gateway.lists import list_routes
from steadyvoice.gateway.methods import Door, Methods
from steadyvoice.gateway.metrics import Metrics
from steadyvoice.gateway.openai import OpenAIDialect
from steadyvoice.gateway.own import Health, Readiness
from steadyvoice.gateway.pages import page_doors
from steadyvoice.gateway.reload import Reloader
from steadyvoice.gateway.reporter import Reporter
from steadyvoice.gateway.speech import SpeechDoor
from steadyvoice.wire import elevenlabs, openai
from steadyvoice.wire.elevenlabs import Form


def application(house: House, reloader: Reloader | None = None) -> Front:
    """Build the gateway. Whoever builds it opens the service before and closes it after."""
    routes = [
        *_speech_routes(house),
        *list_routes(Catalogue(house)),
        *_own_routes(house, reloader or Reloader(house)),
    ]
    return Front(house, Router(routes, redirect_slashes=False, default=NobodyHome()))


def _speech_routes(house: House) -> list[Route]:
    doors: dict[str, Door] = {openai.SPEECH_PATH: SpeechDoor(house, OpenAIDialect())}
    for form in Form:
        path = f"{elevenlabs.SPEECH_PATH}/{{voice_id}}{form.value}"
        doors[path] = SpeechDoor(house, ElevenLabsDialect(form))
    return [Route(path, Methods({"POST": door})) for path, door in doors.items()]


def _own_routes(house: House, reloader: Reloader) -> list[Route]:
    metrics, reporter = Metrics(house), Reporter(house)
    house.watchers += [metrics, reporter, *([AccessLog(house)] if house.server.access_log else [])]
    open_doors: dict[str, Door] = {"/healthz": Health(), "/readyz": Readiness(house), "/metrics": metrics}
    open_doors |= page_doors()
    doors: dict[str, Door] = {path: Methods({"GET": door}) for path, door in open_doors.items()}
    doors |= admin_doors(house, reporter.calls, reporter.hour, reloader)
    return [Route(path, door) for path, door in doors.items()]
