"""What there is to choose from: voices, models, and what the account may still spend.

The vendor is asked, which is free, as long as its circuit is closed, and what it said is kept for a while. When it
cannot say, the answer is what is known here: a client that lists voices before it speaks must not fail on that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from steadyvoice.breaker import CircuitState
from steadyvoice.gateway.house import House
from steadyvoice.providers.elevenlabs import ElevenLabs
from steadyvoice.providers.openai import OpenAICompatible
from steadyvoice.providers.provider import Provider
from steadyvoice.speech.errors import TTSError
from steadyvoice.speech.request import DEFAULT_VOICE
from steadyvoice.wire.elevenlabs import speech as elevenlabs_speech
from steadyvoice.wire.elevenlabs.account import Subscription, parse_subscription
from steadyvoice.wire.elevenlabs.catalog import MODELS, VOICES, get_model_info, models_body
from steadyvoice.wire.openai import speech as openai_speech

_FRESH = 60.0  # seconds for which an answer of the vendor's is as good as a new one
_PATIENCE = 3.0  # seconds that a vendor is waited for, when there is an answer of our own
_MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Told:
    at: float
    document: Any


class Askable(Protocol):
    """A provider that answers questions that are free."""

    async def ask(self, target: str) -> Any:
        """Ask. Raises TTSError."""
        ...


class Catalogue:
    """Answers of the vendor's, kept; and our own in its stead."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._told: OrderedDict[str, _Told] = OrderedDict()
        house.adopting.append(lambda _: self._told.clear())  # others may be asked from now on

    async def asked(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any | None:
        """What ElevenLabs says to this, now or lately; None when it does not."""
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._told_by([each for each in self._healthy if isinstance(each, ElevenLabs)], target)

    async def _told_by(self, providers: Sequence[Askable], target: str) -> Any | None:
        """Ask them one after the other, unless what one of them has said is fresh."""
        kept = self._told.get(target)
        if kept and self._house.clock() - kept.at < _FRESH:
            return kept.document
        for provider in providers:
            with contextlib.suppress(TTSError, TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    document = await provider.ask(target)
                self._keep(target, document)
                return document
        return kept.document if kept else None

    async def subscription(self) -> Subscription:
        """The account's. Who has none with a vendor that meters is not limited."""
        document = await self.asked(elevenlabs_speech.SUBSCRIPTION_PATH)
        try:
            return parse_subscription(document or {})
        except ValueError:
            return Subscription(0, 0, unlimited=True)

    @property
    def voices(self) -> dict[str, str]:
        """Names and ids that are known here: the configured ones, and the vendor's stock if it is configured."""
        eleven = [each for each in self._providers if isinstance(each, ElevenLabs)]
        named = {name: voice.id for each in eleven for name, voice in each.voices.items() if name != DEFAULT_VOICE}
        own = {name: name for each in self._providers for name in getattr(each, "voices", {}) if each not in eleven}
        stock = {name: id for name, id in VOICES.items() if eleven and id not in named.values()}
        return {**own, **stock, **named}

    @property
    def elevenlabs_models(self) -> list[dict[str, Any]]:
        """The models that are known here, the configured ones first."""
        ours = [each.model for each in self._providers if isinstance(each, ElevenLabs)]
        return models_body([get_model_info(name) for name in dict.fromkeys([*ours, *MODELS])])

    async def openai_voices(self) -> list[str]:
        """Return the voices that can be asked for at OpenAI's door.

        They are the configured names and, where such a server is configured, its own; OpenAI's if it does not tell.
        """
        named = [name for each in self._providers for name in getattr(each, "voices", {})]
        servers = [each for each in self._providers if isinstance(each, OpenAICompatible)]
        asked = [each for each in self._healthy if isinstance(each, OpenAICompatible) and not each.is_openai]
        told = openai_speech.parse_audio_voices(await self._told_by(asked, "/audio/voices"))
        stock = openai_speech.VOICES if servers and (not told or any(each.is_openai for each in servers)) else ()
        return list(dict.fromkeys([*named, *told, *stock])) or [DEFAULT_VOICE]  # which every provider has

    @property
    def openai_models(self) -> list[str]:
        """The models that can be asked for at OpenAI's door. Any other name is taken for the provider's own."""
        ours = [each.model for each in self._providers if isinstance(each, OpenAICompatible)]
        return list(dict.fromkeys([*ours, *openai_speech.MODELS]))

    @property
    def _healthy(self) -> list[Provider]:
        """Those whose circuit is closed: nobody is asked out of curiosity while it is in trouble."""
        circuits = self._house.service.circuits
        calm = (CircuitState.CLOSED, CircuitState.MONITORING)
        return [each for each in self._providers if circuits[each.name].state in calm]

    @property
    def _providers(self) -> list[Provider]:
        return self._house.service.providers

    def _keep(self, target: str, document: Any) -> None:
        self._told[target] = _Told(self._house.clock(), document)
        self._told.move_to_end(target)
        while len(self._told) > _MOST_KEPT:
            self._told.popitem(last=False)
