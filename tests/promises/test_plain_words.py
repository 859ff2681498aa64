"""Plain words in the source: docstrings, names of modules and classes, comments, and sizes of modules."""

from __future__ import annotations

from statistics import median

import pytest

from .layers import ROOT
from .source_words import (
    Docstring,
    Name,
    Source,
    comment_lines,
    contents,
    javascript_names,
    public_classes,
    sources,
    words_of_name,
)

MAX_SHARE_OF_BAD_DOCSTRINGS = 0.03
"""Share of docstrings that open with a pronoun, a relative clause or a question, or mention indefinite persons."""

MIN_DOCSTRINGS = 2_900
MAX_MODULES = 362
MIN_MEDIAN_LINES = 110
MIN_SHARE_OF_COMMENTS = 0.01

FINDABLE = """
failover, circuit breaker, state machine, sliding window, backoff, cooldown, retry budget, timeout, deadline,
concurrency limit, queue, connection pool, passthrough, hedging, cache, coalescing, prefetch, audio validation,
crossfade, resampling, access control, middleware, shutdown, atomic write, hourly statistics, metrics, event log,
server-sent events, access log, quota
"""
"""Terms that an engineer searches for. Each is in the name of a module or of a class."""

_TERMS = """
access account accounting actions admin admission alignment alternatives announcements app arguments attempt attributes
audio azure
backoff base billing body breaker buffers
cache call calls candidates captions cartesia catalog
channel check checks
circuit
classification cli client close
coalescing codec coding command concurrency config conformance connection connections content context control
conversation conversion coordinator
credentials crossfade
dashboard decoders decorators deepgram definitions delivery demo dialect dialects dialogue duration
elevenlabs endpoint engine environment error errors espeak estimate event events evidence exchange export extras
failover failure fallback fast fault
file
flac fleet flight
fork format
frames framing
gateway google guarded
half handler heartbeat hedge hedging hints holds hourly http
in init injection
journal json
keys kinds
lag lane latency ledger length lifecycle limits lines link listener livekit local locking log lookup loop
machine main markup matching member membership memory merging message messages metric metrics middleware migration
mpeg
neural ng notifications
observability observers ogg openai openapi option options output overview
parser passthrough permit persistence pipecat pipeline plan plugins polly pool prefetch preview problems protocol
provider providers
proxy
quorum
race rate reachability
reader recent record recorded recorder records redis registry relay reload replay report request
resampling resilience resource
response responses result results retry
router routes
rules runner
safety say
scenario script
segment segmentation sent sentences serve server service session set settings
shared shutdown
sim simulation simulator
sliding
snapshot
spans speaker speech splitting
standard state states statistics status stitching store stream streams
supervisor
svg
sync syntax synthesis systems
table
telemetry template templates terminal testing text
thread
timeline timeouts timestamps timing
tone tones
tracing transport trial
turn
url urls utterance
validation validators vendor version views voice voices
wav websocket window wire word worker workers writer writing
"""
TERMS = frozenset(_TERMS.split())
"""Words of which the names of modules are made. A new one is a term of the field, and is added here."""


@pytest.fixture(scope="module")
def modules() -> list[Source]:
    found = sources()
    assert len(found) > 100
    return found


def test_docstrings_open_with_an_imperative_or_a_noun_and_speak_of_things(modules: list[Source]) -> None:
    found = [each for module in modules for each in contents(module).docstrings]
    bad = [each for each in found if each.opens_badly or each.speaks_of_persons]
    assert len(found) >= MIN_DOCSTRINGS
    assert len(bad) <= MAX_SHARE_OF_BAD_DOCSTRINGS * len(found), "\n".join(map(str, bad))


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_docstrings_outside_of_the_package_are_as_plain(folder: str) -> None:
    found = [each for module in sources(ROOT / folder) for each in contents(module).docstrings]
    bad = [each for each in found if each.opens_badly or each.speaks_of_persons]
    assert found
    assert len(bad) <= MAX_SHARE_OF_BAD_DOCSTRINGS * len(found), "\n".join(map(str, bad))


def test_no_two_public_classes_share_a_name(modules: list[Source]) -> None:
    ours = [
        module for module in modules if module.module not in ("livekit", "pipecat")
    ]  # their frameworks name classes
    doubled = {name: where for name, where in public_classes(ours).items() if len(where) > 1}
    assert doubled == {}


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_no_two_public_classes_of_tests_or_benchmarks_share_a_name(folder: str) -> None:
    doubled = {name: where for name, where in public_classes(sources(ROOT / folder)).items() if len(where) > 1}
    assert doubled == {}


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples", "docs", "deploy"])
def test_names_are_made_of_standard_words(folder: str) -> None:
    found = [name for module in sources(ROOT / folder) for name in contents(module).names]
    assert found
    refused = [name for name in found if name.refused_words]
    assert not refused, "\n".join(map(str, refused))


@pytest.mark.parametrize("folder", ["src/steadyvoice/gateway/page", "tests/conformance/js"])
def test_names_and_comments_of_scripts_are_made_of_standard_words(folder: str) -> None:
    found = [name for file in sorted((ROOT / folder).glob("*.js")) for name in javascript_names(file)]
    assert found
    refused = [name for name in found if name.refused_words]
    assert not refused, "\n".join(map(str, refused))


def test_every_kind_of_name_is_found() -> None:
    text = """
class A:
    b: int
    def c(self, d, *e, f=1, **g):
        self.h = i = 2
        for j in [k for k in e]: pass
        with f as l: pass
        try: (m := 3)
        except ValueError as n: pass
        match d:
            case [o, *p]: pass
            case int() as q: pass
        return lambda r: None
"""
    found = {name.name for name in contents(Source("m", "m.py", text)).names} - {"A", "self"}
    assert found == set("bcdefghijklmnopqr")


def test_every_kind_of_name_in_a_script_is_found() -> None:
    script = ROOT / "src/steadyvoice/gateway/page/window_gauge.js"
    found = {name.name for name in javascript_names(script)}
    assert {"WindowGauge", "caption", "windowSeconds", "PITCH", "disc", "cross", "succeeded", "index"} <= found
    assert "colours" in found, "comments are read, too"
    assert "calls in the window" not in found


def test_refused_word_is_reported_with_its_replacement() -> None:
    assert str(Name("a.py", 3, "test_caller_is_told")).endswith(
        "test_caller_is_told: instead of 'told' write what it is: message, events, response, result, options"
    )
    assert not Name("a.py", 3, "test_household_and_untold").refused_words


def test_module_names_are_made_of_terms(modules: list[Source]) -> None:
    odd = {module.module: words for module in modules if (words := sorted(set(words_of_name(module.module)) - TERMS))}
    assert odd == {}
    assert sorted(TERMS - {word for module in modules for word in words_of_name(module.module)}) == [], "not used"


def test_standard_terms_are_found_in_the_names_of_modules_and_classes(modules: list[Source]) -> None:
    names = [*(module.module for module in modules), *public_classes(modules)]
    missing = [term for term in findable_terms() if not any(names_term(name, term) for name in names)]
    assert missing == []


def findable_terms() -> list[str]:
    return [" ".join(term.split()) for term in FINDABLE.split(",")]


def names_term(name: str, term: str) -> bool:
    """Return whether a name has the words of a term in their order; the last one may have an ending, as in "writer"."""
    words = f" {' '.join(words_of_name(name))} "
    plain = term.replace("-", " ")
    return f" {plain}" in words


def test_modules_have_their_natural_size(modules: list[Source]) -> None:
    assert len(modules) <= MAX_MODULES
    assert median(module.lines for module in modules) > MIN_MEDIAN_LINES


def test_comments_say_why(modules: list[Source]) -> None:
    lines = sum(module.lines for module in modules)
    assert sum(map(comment_lines, modules)) >= MIN_SHARE_OF_COMMENTS * lines


@pytest.mark.parametrize(
    "text",
    [
        "It is over.",
        "Who may come in.",
        "What happened.",
        "How long it lasts, in seconds.",
        "Whoever waits.",
        "Nobody listens.",
        "One that fails.",
        "To whom it is sent.",
    ],
)
def test_docstring_that_opens_with_a_pronoun_or_a_question_is_found(text: str) -> None:
    assert Docstring("x.py", 1, text).opens_badly


@pytest.mark.parametrize(
    "text", ["Return the next provider to try.", "Whether the loop is behind.", "Sliding window.", "Items of a list."]
)
def test_docstring_that_opens_with_an_imperative_or_a_noun_is_taken(text: str) -> None:
    assert not Docstring("x.py", 1, text).opens_badly


def test_docstrings_are_found_wherever_they_stand() -> None:
    text = '''"""A module."""
X = 1
"""A constant."""
class A:
    """A class."""
    y: int
    """A field."""
    def __init__(self):
        self.z = 1
        """An attribute."""
    def f(self):
        """Do it."""
'''
    found = [each.text for each in contents(Source("m", "m.py", text)).docstrings]
    assert sorted(found) == ["A class.", "A constant.", "A field.", "A module.", "An attribute.", "Do it."]


def test_comments_that_are_directives_or_stand_behind_code_are_not_counted() -> None:
    assert comment_lines(Source("m", "m.py", "# Why.\nx = 1  # what\n# noqa\n# fmt: off\n    # also\n")) == 2


def test_terms_are_found_in_both_kinds_of_names() -> None:
    assert names_term("providers.http.connection_pool", "connection pool")
    assert names_term("CircuitBreakerConfig", "circuit breaker")
    assert names_term("gateway.server_sent_events", "server-sent events")
    assert not names_term("providers.pool", "connection pool")
    assert names_term("AtomicWriter", "atomic write")
    assert not names_term("gateway.sequence", "queue")
