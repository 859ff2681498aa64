"""Services in a fleet: their circuits are shared, as those of any registry are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from steadyvoice import AsyncTTSService, CircuitBreakerConfig, Tone, TTSConfigurationError, TTSService
from steadyvoice.cli.status import render
from steadyvoice.fleet import FleetConfig
from steadyvoice.fleet.testing import InMemoryFleet
from steadyvoice.providers.base import Accepted, AudioChunk, SynthesisOffer
from steadyvoice.providers.credentials import credential_for
from steadyvoice.service.config_file import load_config
from steadyvoice.speech.errors import TTSError, TTSInvalidKeyError, TTSServerError
from steadyvoice.speech.request import SpeechRequest

CIRCUIT = CircuitBreakerConfig.consecutive(6)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - threads change it
            await asyncio.sleep(0.01)


async def test_services_open_on_what_they_saw_together() -> None:
    server = InMemoryFleet(time.monotonic)
    async with (
        AsyncTTSService([Tone(name="vendor")], circuit=CIRCUIT, fleet=server.connect()) as first,
        AsyncTTSService([Tone(name="vendor")], circuit=CIRCUIT, fleet=server.connect()) as second,
        AsyncTTSService([Tone(name="vendor")], circuit=CIRCUIT, fleet=server.connect()) as third,
    ):
        services = (first, second, third)
        await eventually(lambda: all(len((each.fleet_status() or {}).get("replicas", ())) == 2 for each in services))
        for service in services:
            for _ in range(2):
                service.circuits["vendor"].acquire().failure("down")
        await eventually(lambda: all(each.circuits["vendor"].state == "open" for each in services))
        state = first.get_error_state()
        assert (state["fleet"]["state"], state["fleet"]["store"]) == ("together", "memory")
        assert "at 3 of 3 replicas" in "".join(each.circuits["vendor"].snapshot().reason for each in services)
    assert first.fleet_status() is None


async def test_fleet_can_be_joined_and_left_at_run_time() -> None:
    server = InMemoryFleet(time.monotonic)
    async with AsyncTTSService([Tone()], fleet=server.connect()) as stays, AsyncTTSService([Tone()]) as service:
        assert service.get_error_state()["fleet"] is None
        await service.reconfigure(fleet=server.connect())
        await eventually(lambda: len((stays.fleet_status() or {})["replicas"]) == 1)
        await service.reconfigure(muted=False)
        assert service.fleet_status() is not None
        await service.reconfigure(fleet=None)
        await eventually(lambda: not (stays.fleet_status() or {})["replicas"])
        assert service.circuits["tone"].snapshot().probe_granted


class VendorAccount:
    """Vendor that counts the requests of one account, and the most at once."""

    def __init__(self) -> None:
        self.running = self.most = 0

    def provider(self, max_concurrency: int | None) -> CountedTone:
        return CountedTone(self, max_concurrency)


class CountedTone(Tone):
    """Provider with an account at the vendor, whose requests take a while."""

    def __init__(self, vendor: VendorAccount, max_concurrency: int | None) -> None:
        super().__init__(name="vendor")
        self.vendor = vendor
        self.credential = credential_for("key", "vendor.test", max_concurrency=max_concurrency)

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        self.vendor.running += 1
        self.vendor.most = max(self.vendor.most, self.vendor.running)
        try:
            async for event in super().speak(request, offer, connection_timeout=connection_timeout):
                yield event
            await asyncio.sleep(0.05)
        finally:
            self.vendor.running -= 1


async def test_services_share_the_slots_of_an_account() -> None:
    server, vendor = InMemoryFleet(time.monotonic), VendorAccount()
    async with (
        AsyncTTSService([vendor.provider(4)], fleet=server.connect()) as first,
        AsyncTTSService([vendor.provider(4)], fleet=server.connect()) as second,
    ):
        await eventually(lambda: len((first.fleet_status() or {}).get("replicas", ())) == 1)
        await asyncio.gather(*(first.synthesize("Hello") for _ in range(60)))
        assert vendor.most == 4
        speeches = await asyncio.gather(*(each.synthesize("Hello") for each in (first, second) * 20))
        assert {speech.outcome for speech in speeches} == {"spoken"}
        assert vendor.most == 4
        assert first.get_error_state()["fleet"]["slots"]["vendor"]["limit"] == 4
        await first.reconfigure(fleet=None)
        await asyncio.gather(*(first.synthesize("Hello") for _ in range(8)))
        assert (first.get_error_state()["concurrency"]["limit"], vendor.most) == (4, 4)


async def test_service_without_a_limit_is_not_held_back_by_its_fleet() -> None:
    server, vendor = InMemoryFleet(time.monotonic), VendorAccount()
    async with AsyncTTSService([vendor.provider(None)], fleet=server.connect()) as service:
        await asyncio.gather(*(service.synthesize("Hello") for _ in range(8)))
        assert vendor.most == 8


async def test_service_whose_store_is_unreachable_takes_its_share_of_the_limit() -> None:
    server, vendor = InMemoryFleet(time.monotonic), VendorAccount()
    store = server.connect()
    server.partition(store)
    async with AsyncTTSService([vendor.provider(4)], fleet=store) as service:
        await eventually(lambda: (service.fleet_status() or {})["missed_beats"] > 0)
        await asyncio.gather(*(service.synthesize("Hello") for _ in range(8)))
        assert vendor.most == 4
        assert service.get_error_state()["fleet"]["state"] == "alone"


class Refusing(CountedTone):
    """Provider whose vendor refuses the key, or is busy."""

    error: TTSError | None = None

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        if self.error:
            raise self.error
        async for event in super().speak(request, offer, connection_timeout=connection_timeout):
            yield event


def held(service: AsyncTTSService) -> list[str]:
    return [f"{hold['key']}: {hold['kind']}" for hold in service.get_error_state()["providers"]["vendor"]["holds"]]


async def test_refused_key_is_known_at_every_replica_until_it_is_lifted() -> None:
    server, vendor = InMemoryFleet(time.monotonic), VendorAccount()
    first_provider, second_provider = Refusing(vendor, None), Refusing(vendor, None)
    async with (
        AsyncTTSService([first_provider], fleet=server.connect(), muted=False) as first,
        AsyncTTSService([second_provider], fleet=server.connect(), muted=False) as second,
    ):
        await second.synthesize("Hello")
        first_provider.error = TTSInvalidKeyError("wrong key", provider="vendor")
        with pytest.raises(TTSInvalidKeyError):
            await first.synthesize("Hello")
        await eventually(lambda: held(second) == held(first) == ["vendor/credential: invalid_key"])
        with pytest.raises(TTSError, match="on hold"):
            await second.synthesize("Hello")
        async with AsyncTTSService([Refusing(vendor, None)], fleet=server.connect(), muted=False) as restarted:
            restarted.conversation()  # there is an event loop
            await eventually(lambda: bool(held(restarted)))
        second.reset_circuit_breaker()
        await eventually(lambda: held(second) == held(first) == [])
        first_provider.error = TTSServerError("busy", provider="vendor", retry_after=60.0)
        with pytest.raises(TTSError):
            await first.synthesize("Hello")
        await eventually(lambda: len(held(first)) == len(held(second)) == 1)
        first.reset_circuit_breaker()
        await eventually(lambda: held(second) == [])


async def test_circuit_is_opened_and_reset_everywhere() -> None:
    server = InMemoryFleet(time.monotonic)
    async with (
        AsyncTTSService([Tone(name="vendor")], fleet=server.connect()) as first,
        AsyncTTSService([Tone(name="vendor")], fleet=server.connect()) as second,
    ):
        first.open_everywhere("vendor", reason="maintenance")
        await eventually(lambda: second.circuits["vendor"].state == "forced_open")
        assert second.circuits["vendor"].snapshot().reason == "maintenance"
        async with AsyncTTSService([Tone(name="vendor")], fleet=server.connect()) as late:
            await eventually(lambda: late.circuits["vendor"].state == "forced_open")
            second.reset_everywhere("vendor")
            await eventually(lambda: late.circuits["vendor"].state == first.circuits["vendor"].state == "closed")
        with pytest.raises(KeyError):
            first.open_everywhere("other")


def test_synchronous_service_shares_too() -> None:
    server = InMemoryFleet(time.monotonic)
    with TTSService([Tone()], fleet=server.connect()) as service:
        assert service.get_error_state()["fleet"]["store"] == "memory"
        assert service.synthesize("Hello").outcome == "spoken"


@pytest.mark.parametrize(
    ("fleet", "message"),
    [
        ("http://localhost", "fleet.url: unknown scheme 'http'"),
        (7, "fleet: must be an address, a FleetConfig or a FleetStore, got 7"),
    ],
)
def test_impossible_fleet_is_refused(fleet: str, message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        AsyncTTSService([Tone()], fleet=fleet)


def config_file(folder: Path, table: str) -> Path:
    path = folder / "steadyvoice.toml"
    path.write_text(f'{table}\n[[providers]]\nkind = "tone"\n', "utf-8")
    return path


def test_table_of_the_file_names_store_and_fleet(tmp_path: Path) -> None:
    path = config_file(tmp_path, '[fleet]\nurl = "env:STORE"\nname = "voices"')
    loaded = load_config(path, {"STORE": "redis://:secret-word@localhost"})
    assert loaded.plan["fleet"] == FleetConfig("redis://:secret-word@localhost", "voices")
    assert "secret-word" not in repr(loaded.plan["fleet"])
    assert load_config(config_file(tmp_path, ""), {}).plan["fleet"] is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('url = "localhost"', "fleet.url: no scheme"),
        ('url = "redis://localhost"\nname = ""', "fleet.name: must be 1 to 100"),
        ('url = "redis://localhost"\nexpected_replicas = 0', "fleet.expected_replicas: must be a whole number from 1"),
        ('url = "redis://localhost"\nworkers = 2', "fleet.workers: unknown key"),
        ('name = "voices"', "fleet"),
    ],
)
def test_impossible_table_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(TTSConfigurationError, match=message):
        load_config(config_file(tmp_path, f"[fleet]\n{table}"), {})


def shown(**fleet: object) -> str:
    overview = {
        "providers": {},
        "is_muted": False,
        "fleet": {"replicas": {}, "circuits": {}, "last_error": None, **fleet},
    }
    return "\n".join(str(part) for part in getattr(render(overview), "renderables", ()))


def test_status_shows_the_fleet() -> None:
    circuit = {"state": "open", "is_outlier": False, "states_elsewhere": {"a": "open", "b": "closed"}}
    assert "Fleet: together with 1 other replica\n" in shown(state="together", replicas={"a": 0.1})
    assert "vendor differs at 1 of them" in shown(
        state="together", replicas={"a": 0.1, "b": 0}, circuits={"vendor": circuit}
    )
    assert "vendor fails only here" in shown(state="together", circuits={"vendor": {**circuit, "is_outlier": True}})
    assert "Fleet: alone; Timeout" in shown(state="alone", last_error="Timeout")
