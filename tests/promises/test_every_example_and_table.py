"""Every example and every table of the documentation says how it is checked, and is.

A comment in the line above says how; tests/promises/documentation.py reads it. Of a fence:

    <!-- runs -->  <!-- runs: SETUP -->   executed as it stands, or behind a setup of tests/promises/snippets.py;
                                          TOML is loaded as a configuration
    <!-- file: NAME -->, <!-- follow -->, <!-- terminal: NAME -->, <!-- prints -->, <!-- install -->
                                          followed to the letter: tests/promises/followed_pages.py
    <!-- commands -->                     its commands and their options exist
    <!-- tested: FILE -->                 this test reads it
    <!-- measured: DATE, SOURCE -->       output of a measurement
    <!-- not run: REASON -->              one of NOT_RUN

and of a table:

    <!-- lists: NAME -->                  all fields, parameters or values of this, with their defaults
    <!-- among: NAME ... -->              some of them
    <!-- names -->                        what each row begins with exists in the code
    <!-- tested: FILE -->                 this test compares it
    <!-- measured: DATE, SOURCE -->       results of a measurement
    <!-- sources: DATE, SOURCE -->        facts about software of others
    <!-- described -->                    behaviour in words

Whatever a table says, names set as code exist in the code.
"""

from __future__ import annotations

import ast
import inspect
import re
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any, get_args

from .documentation import PAGES as ALL_PAGES
from .documentation import Block, Table, all_blocks, all_tables, commands, indented_blocks
from .layers import ROOT
from .snippets import SETUPS
from .test_first_hour import PAGES as FOLLOWED_PAGES

GENERATED = "docs/reference/"
"""Pages that test_api_reference.py compares with the code as a whole."""

RECORDS = ("docs/decisions/", "CHANGELOG.md")
"""What was true on its date, and is not kept up with the code: no list of names or settings that one would look up."""

FOLLOWED = ("file", "follow", "terminal", "prints", "install")

NOT_RUN = {
    "needs a key": "a real key of a vendor",
    "needs a cluster": "Kubernetes or Docker, and images from a registry",
    "other software": "a file of software that the tests do not have",
}

PROGRAMS = set(
    re.findall(
        r"\S+",
        "make steadyvoice pip python python3 .venv/bin/python .venv/bin/steadyvoice /opt/steadyvoice/bin/pip curl echo "
        "jq uv docker kubectl helm install useradd systemctl",
    )
)
"""Programs in shell blocks: ours, whose options test_docs_run.py checks, and common ones."""

FOREIGN = {
    "CONTRIBUTING.md": "ci DATE",
    "docs/breaker.md": "state_change RequestException before_sleep retry_if_exception_type retry_if_result "
    "stop_after_delay wait_exponential_jitter",
    "docs/command-line.md": "read_tmeout",
    "docs/comparison.md": "max_fails proxy_next_upstream",
    "docs/guides/fastapi.md": "GZipMiddleware",
    "docs/guides/migrate-circuitbreaker.md": "FAILURE_THRESHOLD RECOVERY_TIMEOUT FALLBACK_FUNCTION EXPECTED_EXCEPTION "
    "MyCircuit is_failure",
    "docs/guides/migrate-litellm.md": "enable_pre_call_checks rpm tpm cooldown_time redis_host redis_port "
    "redis_password retry_policy max_fallbacks num_retries disable_cooldowns allowed_fails_policy allowed_fails "
    "aspeech cache_responses fallbacks default_fallbacks general_settings master_key router_settings "
    "background_health_check routing_strategy max_parallel_requests",
    "docs/guides/migrate-livekit-fallback.md": "tts_availability_changed",
    "docs/guides/migrate-pybreaker.md": "state_change before_call fallback_circuit_state redis_object cluster_mode",
    "docs/length.md": "shortcodes",
    "docs/pipecat.md": "text_transforms",
    "docs/providers.md": "no_credit",
    "docs/tracing.md": "OTEL_TRACES_SAMPLER_ARG parentbased_always_on OTEL_METRICS_EXPORTER "
    "OTEL_METRIC_EXPORT_INTERVAL",
    "docs/troubleshooting.md": "dmesg proxy_next_upstream",
    "docs/voices.md": "ebur128",
    "docs/clients.md": "AUDIO_TTS_ENGINE AUDIO_TTS_OPENAI_API_BASE_URL AUDIO_TTS_OPENAI_API_KEY ElevenLabsApi "
    "ElevenLabsEnvironment ElevenLabsHttpTTSService ElevenLabsTTSService OPENAI_BASE_URL OpenAITTSService "
    "TTS_OPEN_AI_COMPATIBLE_ENDPOINT TTS_OPEN_AI_COMPATIBLE_KEY TTS_PROVIDER baseURL baseUrl config_flow "
    "createElevenLabs createOpenAI generic homeassistant open_webui routers FallbackAdapter",
}
"""Words set as code in tables that are names of software of others, by page."""


def hand_written(page: str) -> bool:
    return not page.startswith((GENERATED, *RECORDS))


BLOCKS = [block for block in all_blocks() if hand_written(block.page)]
TABLES = [table for table in all_tables() if hand_written(table.page)]


def problem_of_block(block: Block) -> str:
    """Return what is wrong with the mark of a fence, or an empty text."""
    verb, argument = block.mark.verb, block.mark.argument
    if verb == "runs":
        return "" if not argument or (block.language == "python" and argument in SETUPS) else f"no setup {argument}"
    if verb in FOLLOWED:
        return "" if ROOT / block.page in FOLLOWED_PAGES else "the page is not followed"
    if verb == "commands":
        unknown = {command[0] for command in commands(f"```sh\n{block.code}```\n")} - PROGRAMS
        return f"unknown programs {unknown}" if unknown else ""
    if verb == "not run":
        return "" if argument in NOT_RUN else f"the reason is none of {', '.join(NOT_RUN)}"
    return problem_of_reference(block.page, verb, argument) or ""


def problem_of_table(table: Table) -> str:
    """Return what is wrong with the mark of a table, or an empty text."""
    verb, argument = table.mark.verb, table.mark.argument
    if verb in ("lists", "among"):
        return problem_of_list(table)
    if verb == "names":
        bare = [row[0] for row in table.rows if "`" not in row[0]]
        return f"rows that begin without a name: {bare}" if bare else ""
    if verb == "described":
        return ""
    if verb == "sources":
        return "" if re.fullmatch(r"\d{4}-\d\d-\d\d, .+", argument) else "date and source are missing"
    return problem_of_reference(table.page, verb, argument)


def problem_of_reference(page: str, verb: str, argument: str) -> str:
    """Return what is wrong with the test or the measurement that a mark names."""
    if verb == "tested":
        file = ROOT / argument
        if not file.is_file():
            return f"there is no {argument}"
        text = "".join(each.read_text("utf-8") for each in {file, file.parent / "page.py"} if each.is_file())
        named = page.rpartition("/")[2] in text or (page == "README.md" and "README" in text)
        return "" if named else f"{argument} does not read {page}"
    if verb == "measured":
        date, _, source = argument.partition(", ")
        known = re.fullmatch(r"\d{4}-\d\d-\d\d", date) and (ROOT / source.split()[0]).exists()
        return "" if known else f"no measurement: {argument}"
    return "it is not marked: how is it checked?" if not verb else f"unknown mark {verb}"


def problem_of_list(table: Table) -> str:
    """Compare first column and defaults with the fields, parameters or values of the objects that a mark names."""
    known: dict[str, Any] = {}
    for thing in map(resolved, table.mark.argument.split()):
        known |= names_of(thing) if table.mark.verb == "lists" else public_attributes(thing) | names_of(thing)
    shown = {name: row for row in table.rows for name in re.findall(r"`-{0,2}([A-Za-z_][\w-]*)", row[0])}
    unknown = shown.keys() - known.keys()
    missing = known.keys() - shown.keys() if table.mark.verb == "lists" else set()
    if unknown or missing:
        return f"unknown: {sorted(unknown)}, missing: {sorted(missing)}"
    if "default" not in table.head:
        return ""
    column = table.head.index("default")
    wrong = [name for name, row in shown.items() if row[0].count("`") == 2 and not same(row[column], known[name])]
    return f"wrong defaults: {wrong}" if wrong else ""


def resolved(path: str) -> Any:
    """Return the object of a dotted path."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(path)


def names_of(thing: Any) -> dict[str, Any]:
    """Return the values of an enum or a literal type, the keys of a mapping, or else the parameters with defaults."""
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return dict.fromkeys((str(member.value) for member in thing), inspect.Parameter.empty)
    if get_args(thing):
        return dict.fromkeys(get_args(thing), inspect.Parameter.empty)
    if isinstance(thing, dict):
        return dict.fromkeys(thing, inspect.Parameter.empty)
    if hasattr(thing, "__total__"):  # a TypedDict
        return dict.fromkeys(thing.__annotations__, inspect.Parameter.empty)
    parameters = inspect.signature(thing).parameters.values()
    return {each.name: each.default for each in parameters if each.name != "self"}


def public_attributes(thing: Any) -> dict[str, Any]:
    """Return the public attributes of a class, all without a default."""
    public = [name for name in dir(thing) if not name.startswith("_")] if inspect.isclass(thing) else []
    return dict.fromkeys(public, inspect.Parameter.empty)


def same(cell: str, default: Any) -> bool:
    """Tell whether a cell states a default: code and numbers are compared. Words are believed, as "the vendor's" is."""
    stated = re.fullmatch(r"`([^`]+)`|(\d[\d.]*)(?: \w+)?", cell)
    if not stated:
        return bool(cell) or default in (None, inspect.Parameter.empty, ()) or callable(default)
    if default is inspect.Parameter.empty:
        return True
    text = stated[1] or stated[2]
    try:
        return bool(ast.literal_eval({"true": "True", "false": "False"}.get(text, text)) == default)
    except (ValueError, SyntaxError):  # a name
        name = getattr(default, "name", getattr(default, "__name__", ""))
        return default is None or text == default or (bool(name) and text.rpartition(".")[2] == name)


@cache
def words_of_the_code() -> frozenset[str]:
    """Return all words of the package, its settings, and what is built, deployed and shown with it."""
    folders = [ROOT / name for name in ("src", "deploy", "benchmarks", "examples", "tests", ".ci")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in _TEXT and file.is_file()]
    own = [
        file
        for file in files
        if file.name not in ("test_every_example_and_table.py", "test_docs_run.py")
        and not {".venv", "node_modules"} & set(file.parts)  # software of others, which benchmarks and tests install
    ]
    text = " ".join(file.read_text("utf-8") for file in [*own, ROOT / "pyproject.toml", ROOT / "Makefile"])
    return frozenset(re.findall(r"\w+", text))


_TEXT = {".py", ".toml", ".js", ".mjs", ".html", ".yaml", ".yml", ".txt", ".service", ".tpl", ""}


def names_in(table: Table) -> set[str]:
    """Return the names set as code in a table."""
    code = [each for row in table.rows for cell in row for each in re.findall(r"`([^`]+)`", cell)]
    return {word for each in code for word in re.findall(r"[A-Za-z_]\w+", each)}


def test_every_fence_says_how_it_is_checked() -> None:
    problems = [f"{block} [{block.language}]: {problem}" for block in BLOCKS if (problem := problem_of_block(block))]
    assert problems == []


def test_every_block_set_off_by_indentation_has_commands_only() -> None:
    for page in ALL_PAGES:
        text = "\n\n".join(indented_blocks(page.read_text("utf-8")))
        if hand_written(page.relative_to(ROOT).as_posix()):
            assert {command[0] for command in commands(f"\n\n{text}")} <= PROGRAMS, page.name


def test_every_table_says_how_it_is_checked() -> None:
    problems = [f"{table}: {problem}" for table in TABLES if (problem := problem_of_table(table))]
    assert problems == []


def test_names_in_tables_exist() -> None:
    missing = {
        table.page: names
        for table in TABLES
        if (names := names_in(table) - words_of_the_code() - words_of_examples(table.page))
    }
    assert missing == {}


def words_of_examples(page: str) -> set[str]:
    """Return the names in the examples of a page, and the foreign ones that it may have."""
    code = " ".join(block.code for block in BLOCKS if block.page == page)
    return {*re.findall(r"\w+", code), *FOREIGN.get(page, "").split()}


def test_foreign_names_are_still_there() -> None:
    used = {page: {name for table in TABLES if table.page == page for name in names_in(table)} for page in FOREIGN}
    assert {page: gone for page, names in FOREIGN.items() if (gone := set(names.split()) - used[page])} == {}
