"""Templates of the utterances of a service: what is the same for all texts with the same options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from steadyvoice.providers.base import PreparedRequest
from steadyvoice.service.options import ResolvedOptions, SettingsInForce, SynthesisOptions, UtteranceTemplate
from steadyvoice.service.pipeline.candidates import Candidate, Candidates, find_candidates
from steadyvoice.service.pipeline.response_call import prepare_request
from steadyvoice.service.provider_set import ProviderSet
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.speech.writing_systems import is_latin

_MAX_RESOLVED = 64
"""Sets of options that are kept checked."""


class UtteranceTemplates:
    """Templates of one service, made once for each set of options until settings or providers change.

    `in_force` is replaced with each change. `warm_up` is called before a template is made.
    """

    def __init__(self, in_force: SettingsInForce, providers: ProviderSet, warm_up: Callable[[], None]) -> None:
        self.in_force = in_force
        self._providers, self._warm_up = providers, warm_up
        self._resolved: dict[object, ResolvedOptions] = {}

    def resolve(self, options: SynthesisOptions) -> ResolvedOptions:
        """Return the checked options of a call, kept for the next call with the same ones.

        Raises as `ResolvedOptions.resolve` does.
        """
        # With their types: 1 equals True, but only one of them may switch the cache off.
        key = (*options.items(), *map(type, options.values()))
        try:
            found = self._resolved.get(key)
        except TypeError:  # a vendor's own fields, which are no key and may change
            return ResolvedOptions.resolve(options)
        if found is None:
            found = ResolvedOptions.resolve(options)
            if len(self._resolved) >= _MAX_RESOLVED:
                self._resolved.clear()
            self._resolved[key] = found
        return found

    def find(self, options: ResolvedOptions, *, hold: bool, announced: bool) -> UtteranceTemplate:
        """Return the template for these options, which keep it."""
        if options.settings is not self.in_force:
            options.settings, options.templates = self.in_force, {}
        found = options.templates.get((hold, announced))
        if found is None:
            found = options.templates[hold, announced] = self._make(options, hold=hold, announced=announced)
        return found

    def find_candidates(self, request: SpeechRequest, template: UtteranceTemplate) -> Candidates:
        """Find the providers for a request, and keep them in the template if they are the same for every text."""
        policy = template.policy
        found = find_candidates(request, list(self._providers.by_name.values()), policy.voice_substitution)
        for candidate in found.candidates:
            if candidate.offer.timed or (policy.on_midstream == "error" and not policy.hold):
                candidate.prepared = _prepare(request, template, candidate)
        if found.for_any_text:
            template.candidates = found
        elif found.for_latin_text and is_latin(request.text):
            template.latin_candidates = found
        return found

    def _make(self, options: ResolvedOptions, *, hold: bool, announced: bool) -> UtteranceTemplate:
        self._warm_up()
        in_force = self.in_force
        policy = in_force.utterance_policy(options, hold=hold, announced=announced)
        # Timestamps say where another provider has to continue, and at the end that the audio was complete.
        request = replace(options.request, timestamps=options.request.timestamps or policy.on_midstream != "error")
        is_special = (in_force.cache and options.cache) or (in_force.hedging and options.hedging)
        return UtteranceTemplate(request, policy, may_be_relayed=not is_special)


def _prepare(request: SpeechRequest, template: UtteranceTemplate, candidate: Candidate) -> PreparedRequest | None:
    """Return the candidate's prepared request, made once for each offer.

    It is kept by provider because the candidates are found anew for each text if one of them depends on it.
    """
    known = template.prepared.get(candidate.name)
    if known is None or known[0] != candidate.offer:
        prepared = prepare_request(candidate.guarded.provider, request, candidate.offer)
        known = template.prepared[candidate.name] = (candidate.offer, prepared)
    return known[1]
