"""Conformance checks of a provider, local or of a vendor, to be run by any test runner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from steadyvoice.providers.base import Provider, SupportsTextStreaming, SupportsWarmUp
from steadyvoice.speech.errors import TTSError
from steadyvoice.testing import error_checks, resource_checks, speech_checks
from steadyvoice.testing.error_checks import ERROR_CASES, ErrorCase, check_error, check_own_error
from steadyvoice.testing.trial import TEXT, ConformanceError, Trial
from steadyvoice.testing.vendor_server import FakeVendor, Respond, VendorResponse

LIMIT = 40.0
"""Seconds for one check. A check that takes longer hangs."""

Run = Callable[[Trial], Awaitable[object]]

_SPEECH: Mapping[str, Run] = {
    "events": speech_checks.check_events,
    "formats": speech_checks.check_formats,
    "word times": speech_checks.check_word_times,
    "any text": speech_checks.check_texts,
    "requests at once": speech_checks.check_concurrency,
    "behind the service": speech_checks.check_service,
    "cancellation": resource_checks.check_cancellation,
    "closing": resource_checks.check_closing,
}
_ALWAYS: Mapping[str, Run] = {
    "offer": speech_checks.check_offer,
    "not started": error_checks.check_not_started,
    "leaks": resource_checks.check_leaks,
    "use after aclose": speech_checks.check_reuse,
}
_OVER_HTTP: Mapping[str, Run] = {
    **{f"error: {name}": partial(check_error, case=case) for name, case in ERROR_CASES.items()},
    "voice and speed": speech_checks.check_voice_and_speed,
    "broken answers": error_checks.check_broken_answers,
    "secrets": error_checks.check_secrets,
    "connecting": error_checks.check_connecting,
    "deadlines": error_checks.check_deadlines,
    "event loop": error_checks.check_event_loop,
    "slow consumer": resource_checks.check_slow_consumer,
}


@dataclass(frozen=True, slots=True)
class ProviderCheck:
    """Check of a provider. Calling it makes a provider, and raises ConformanceError if that does not conform."""

    name: str
    _run: Run = field(repr=False)
    _make: Callable[[str], Provider] = field(repr=False)
    _respond: Respond | None = field(repr=False)
    _text: str = field(repr=False)

    def __call__(self) -> None:
        failure: ConformanceError | None = None
        with ExitStack() as stack:
            vendor = stack.enter_context(FakeVendor(self._respond)) if self._respond else None
            try:
                asyncio.run(self._check(vendor))
            except ConformanceError as error:
                failure = error
        if vendor and vendor.author_error:  # the test's own mistake explains any other error, and may have hidden one
            raise vendor.author_error from None
        if failure:
            raise failure

    async def _check(self, vendor: FakeVendor | None) -> None:
        trial = Trial(self._make(vendor.url if vendor else ""), vendor, self._make, self._text)
        try:
            async with asyncio.timeout(LIMIT):
                await self._run(trial)
        except TimeoutError as error:
            if isinstance(error, TTSError):
                raise self._unexpected(error, trial) from error
            raise ConformanceError(f"hung while {trial.step}", "end, or fail by a TTSError") from error
        except ConformanceError:
            raise
        except Exception as error:
            raise self._unexpected(error, trial) from error
        finally:
            with suppress(Exception):  # the first error is reported
                await asyncio.wait_for(trial.provider.aclose(), LIMIT)

    def _unexpected(self, error: Exception, trial: Trial) -> ConformanceError:
        return ConformanceError(
            f"raised {type(error).__name__} ({error}) while {trial.step}, in the check of {self.name}", "work"
        )

    def __str__(self) -> str:
        return self.name


def vendor_provider_checks(
    make: Callable[[str], Provider],
    respond: Respond,
    *,
    errors: Mapping[str, tuple[VendorResponse, type[TTSError]]] | None = None,
    text: str = TEXT,
) -> list[ProviderCheck]:
    """Return the checks of a provider that reaches its vendor over HTTP.

    - `make`: function of the fake vendor's URL that returns the provider under test.
    - `respond`: the fake vendor's healthy response to a request. It takes the text and the format out of the request,
      has them spoken by the function that it gets, and puts the audio into the vendor's form.
    - `errors`: the vendor's own error responses by a name for each, with the error that the provider has to raise.
    - `text`: a sentence that the provider can speak, of a dozen words.
    """
    checks = dict(_OVER_HTTP)
    for name, (response, kind) in (errors or {}).items():
        case = ErrorCase(f"the vendor answers with its error {name!r}", response, (kind,))
        checks[f"error of the vendor: {name}"] = partial(check_own_error, case=case)
    probe = make("http://127.0.0.1:9")  # only looked at: nothing is sent
    if isinstance(probe, SupportsTextStreaming):
        checks["text stream"] = error_checks.check_text_stream
    return [ProviderCheck(name, run, make, respond, text) for name, run in {**_SPEECH, **_ALWAYS, **checks}.items()]


def local_provider_checks(make: Callable[[], Provider], *, text: str = TEXT) -> list[ProviderCheck]:
    """Return the checks of a provider without a network, such as an engine in a child process.

    - `make`: function that returns the provider under test.
    - `text`: a sentence that the provider can speak, of a dozen words.
    """
    # An engine may take a second to start, so that one is started for most checks.
    checks = {"speech": _all_of(_SPEECH), **_ALWAYS}
    if isinstance(make(), SupportsWarmUp):
        checks["warm-up"] = speech_checks.check_warm_up
    return [ProviderCheck(name, run, lambda _: make(), None, text) for name, run in checks.items()]


def _all_of(checks: Mapping[str, Run]) -> Run:
    async def run_all(trial: Trial) -> None:
        for run in checks.values():
            await run(trial)

    return run_all
