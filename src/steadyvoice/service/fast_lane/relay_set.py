"""Relays of one service: which requests are relayed, and the relays in progress.

Each method returns None, and nothing has happened, for a request that is not usual: the pipeline makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from steadyvoice.breaker.fork_safety import keep_until_exit
from steadyvoice.service.fast_lane.plan import RelayPlan
from steadyvoice.service.fast_lane.relay import Relay, RelayServices, start_relay
from steadyvoice.service.fast_lane.stream_relay import RelayedUtterance
from steadyvoice.service.fast_lane.synthesis_relay import CollectingRelay, SpeechCollector
from steadyvoice.service.options import UtteranceTemplate
from steadyvoice.service.pipeline.response_call import InFlightRequest
from steadyvoice.service.pipeline.utterance import SpeechResources
from steadyvoice.service.stream import AsyncSpeechStream
from steadyvoice.speech.text import clean_text


class RelaySet:
    """Relays of one service, which share its `resources`."""

    def __init__(self, resources: SpeechResources) -> None:
        self._resources = resources
        self.services = RelayServices(
            clock=resources.clock,
            wall_clock=resources.wall_clock,
            lag=resources.lag,
            admission=resources.admission,
            rates=resources.rates,
            workers=resources.workers,
            on_muted=resources.on_muted,
            running=set(),
            observers=resources.observers,
        )
        """Parts of the service that a relay uses."""

    @property
    def running(self) -> Collection[Relay]:
        """Relays in progress."""
        return self.services.running

    def hand_over_all(self) -> None:
        """Hand all relays over to the pipeline, so that each has a stream."""
        for relay in list(self.services.running):
            relay.hand_over()

    def after_fork(self) -> None:
        """Leave the parent's relays behind."""
        keep_until_exit(list(self.services.running))
        self.services.running.clear()

    def plan(self, template: UtteranceTemplate) -> RelayPlan | None:
        """Return the plan of relayed requests, made once for a template; None if such requests are not relayed."""
        plan = template.relay_plan
        if isinstance(plan, RelayPlan) and plan.found.is_current:
            return plan
        if not template.may_be_relayed:
            return None
        plan = template.relay_plan = RelayPlan.of(template)
        return plan

    async def collect(
        self,
        text: str,
        template: UtteranceTemplate,
        continue_in_pipeline: Callable[[InFlightRequest], AsyncSpeechStream],
    ) -> SpeechCollector | None:
        """Wait for the whole audio of a text."""
        text = clean_text(text)
        collector = SpeechCollector(continue_in_pipeline)
        plan = self.plan(template) if text.strip() else None
        relay = start_relay(CollectingRelay, plan, text, self.services, collector) if plan else None
        if relay is None:
            return None
        await collector.ended(relay)
        return collector

    def utterance(self, text: str, template: UtteranceTemplate) -> RelayedUtterance | None:
        """Return the utterance of a text whose audio is delivered by the word."""
        plan = self.plan(template)
        if plan is None or not plan.resumes:
            return None
        text = clean_text(text)
        if not (text.strip() and plan.reads(text)):
            return None
        return RelayedUtterance(plan, text, self.services, self._resources)
