"""Scripts: settings, faults, profiles, and errors with their lines."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from steadyvoice.simulator import Fault, Script, ScriptError, Simulator, SimulatorSettings, load_script, read_script
from steadyvoice.simulator.fault_injection import actions
from steadyvoice.simulator.fault_injection.actions import FaultError, TlsFailure
from steadyvoice.simulator.fault_injection.matching import FaultCall
from steadyvoice.simulator.script import load_profile, profile_names

SCRIPT = """\
# A bad day.
voice = "tones"
keys = ["a", "b"]
concurrency = 5
real_time_factor = 1

[[faults]]
fault = "refuse"
code = "system_busy"
retry_after = 2
start = 10
end = 40

[[faults]]
fault = "stall"
after = 0.8
nth = 3
"""


def test_script_has_settings_and_faults() -> None:
    script = read_script(SCRIPT)
    assert script.about == "A bad day."
    assert script.settings == SimulatorSettings(voice="tones", keys=("a", "b"), concurrency=5, real_time_factor=1.0)
    assert script.faults == (
        Fault(actions.Refuse("system_busy", retry_after=2.0), start=10.0, end=40.0),
        Fault(actions.Stall(after=0.8), nth=3),
    )


def test_empty_script_has_no_faults() -> None:
    assert read_script("").faults == ()


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ('voice = "tones"\nvoise = 1', 2, "unknown setting 'voise'"),
        ('\n\nvoice = "soprano"', 3, "unknown voice 'soprano'"),
        ("concurrency = 0", 1, "concurrency: must be a whole number, 1 or more"),
        ("seed = 1\nreal_time_factor = -1.0\nvoice = 'tones'", 2, "real_time_factor: must be a number, 0 or more"),
        ("keys = 'one'", 1, "keys: must be a list of strings"),
        ("keys = ['one', '']", 1, "keys: must not be empty"),
        ("faults = 3", 1, "faults: must be tables"),
        ('[[faults]]\nfault = "stal"', 2, "did you mean stall?"),
        ('[[faults]]\n# nothing\n\n[[faults]]\nfault = "hang"', 1, "unknown fault None"),
        (
            '[[faults]]\nfault = "hang"\n[[faults]]\nfault = "stall"\nafter = -1',
            5,
            "after: must be a number",
        ),
        ('[[faults]]\nafter = -1\nfault = "stall"', 2, "after: must be a number"),
        ('[[faults]]\nfault = "hang"\nstart = 9\nend = 3', 4, "end: must be after the start"),
        (
            'faults = [\n  {fault = "hang"},\n  {fault = "hang", nth = 0},\n]',
            3,
            "nth: must be a whole number",
        ),
        ('[[faults]]\nfault = "refuse-connexion"', 2, "did you mean refuse-connection?"),
        (
            '[[faults]]\nfault = "refuse-connection"\nseconds = 0',
            3,
            "seconds: must be a number of seconds, more",
        ),
        ('[[faults]]\nfault = "slow-accept"\nseconds = -2', 3, "seconds: must be a number of seconds, 0 or more"),
        ('tls = true\n[[faults]]\nfault = "tls-failure"\nflaw = "rust"', 4, "unknown flaw 'rust'"),
        ('[[faults]]\nfault = "restart"\nafter = -1', 3, "after: must be a number"),
        ('[[faults]]\nfault = "big-frame"\nbytes = 0', 3, "bytes: must be a whole number from 1"),
        ('[[faults]]\nfault = "half-open"\nafter = 1', 3, "unknown field of half-open"),
        ("tls = 1", 1, "tls: must be true or false"),
        ('seed = 1\nkeys = [\n  "a",\n  "",\n]', 2, "keys: must not be empty"),
        ('[[faults]]\nfault = "cut"\nendpoint = "nobodyhome"', 3, "'nobodyhome' matches none of text-to-speech, "),
        ('[[faults]]\nfault = "error-line"\ncode = "zzz"', 3, "code: 'zzz' is not a known code"),
        ('[[faults]]\nfault = "cut"\nperiod = 5', 3, "period: needs an end"),
        ('[[faults]]\nfault = "cut"\nnth = 5\ntimes = 2', 3, "nth: call 5 is not among"),
        ('[[faults]]\nfault = "slow-accept"\nvoice = "x"', 3, "voice: a connection has no voice yet"),
        ('[[faults]]\nfault = "restart"\nlonger_than = 5', 3, "longer_than: a connection has no text yet"),
        (
            'seed = 1\nkeys = ["""\nafter = -1\n"""]\n[[faults]]\nfault = "cut"\nafter = -1',
            7,
            "after: must be a number",
        ),
    ],
)
def test_invalid_script_is_reported_with_its_line(source: str, line: int, message: str) -> None:
    with pytest.raises(ScriptError) as refused:
        read_script(source, "day.toml")
    assert str(refused.value).startswith(f"day.toml, line {line}: ")
    assert message in str(refused.value)


TLS_LATER = '[[faults]]\nfault = "hang"\n\n[[faults]]\nnth = 2\nfault = "tls-failure"\n'


def test_tls_failure_without_tls_is_reported_with_its_line() -> None:
    with pytest.raises(ScriptError, match=r"^day\.toml, line 6: tls-failure: needs TLS"):
        Simulator(read_script(TLS_LATER, "day.toml"))


def test_tls_can_be_enabled_beside_the_script() -> None:
    assert Simulator(read_script(TLS_LATER), tls=True).settings.tls


def test_script_without_a_text_is_reported_without_a_line() -> None:
    with pytest.raises(FaultError, match=r"^tls-failure: needs TLS"):
        Simulator(Script(faults=(Fault(TlsFailure()),)))


def test_invalid_toml_is_reported_with_its_line() -> None:
    with pytest.raises(ScriptError, match=r"^day\.toml: .*line 2"):
        read_script("seed = 1\nvoice = tones\n", "day.toml")


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_text(SCRIPT, "utf-8")
    assert load_script(path) == read_script(SCRIPT)
    path.write_text(SCRIPT, "utf-8-sig")
    assert load_script(path) == read_script(SCRIPT), "with a byte order mark, as Windows' editors write it"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ScriptError, match="not UTF-8 text"):
        load_script(path)


def test_list_of_profiles() -> None:
    assert profile_names() == [
        "brownout",
        "flapping",
        "hang",
        "high-latency",
        "out-of-credit",
        "outage",
        "rate-limited",
    ]


@pytest.mark.parametrize("name", profile_names())
def test_profile_has_a_description_and_affects_both_vendors(name: str) -> None:
    script = load_profile(name)
    assert script.about.endswith(".")
    calls = [FaultCall("text-to-speech/stream", "v", 100), FaultCall("audio/speech", "v", 100)]
    for call in calls:
        assert (
            any(fault.matches(call, 15) or fault.matches(call, 45) for fault in script.faults)
            or name == "out-of-credit"
        )
    remaining = script.settings.character_limit - script.settings.character_count
    assert (remaining < 100) is (name == "out-of-credit")


def test_outage_profile_starts_and_ends() -> None:
    (fault,) = load_profile("outage").faults
    assert (fault.start, fault.end, fault.period) == (30, 90, None)
    assert fault.end < math.inf


def test_renamed_profile_is_named_in_the_error() -> None:
    with pytest.raises(ScriptError, match="unknown profile 'slow-morning': it is now called high-latency"):
        load_profile("slow-morning")


def test_unknown_profile_lists_all_profiles() -> None:
    with pytest.raises(ScriptError, match="unknown profile 'sunshine': there are brownout, "):
        load_profile("sunshine")
