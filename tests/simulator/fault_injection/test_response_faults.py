"""Each fault of HTTP responses, as a client sees it."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from steadyvoice.audio.wav import wav_header
from steadyvoice.simulator import Ending, Fault, Simulator, words_in
from steadyvoice.simulator.fault_injection import actions

from ..client import GEORGE, OPENAI, STREAM, TIMED_STREAM, WHOLE, WORDS, Client, End, RawAnswer

VENDOR_PATHS = [WHOLE, STREAM, TIMED_STREAM, OPENAI]


async def healthy(client: Client, path: str = STREAM) -> RawAnswer:
    seen = await client.speak(path)
    assert (seen.status, seen.terminated, seen.end) == (200, True, End.CLOSED)
    return seen


@pytest.mark.parametrize("path", [*VENDOR_PATHS, "/v1/voices"])
async def test_hang_accepts_the_request_and_sends_nothing(sim: Simulator, client: Client, path: str) -> None:
    sim.faults.set(actions.Hang())
    ask = client.get if path == "/v1/voices" else client.speak
    seen = await ask(path, leave=True)
    assert (seen.status, seen.end) == (0, End.LEFT)


async def test_outage_affects_every_endpoint(sim: Simulator) -> None:
    sim.faults.set(actions.Refuse(status=503))
    for headers in ({"xi-api-key": "any"}, {"authorization": "Bearer any"}):
        assert (await Client(sim.url, headers).get("/v1/models")).status == 503
    client = Client(sim.url)
    for path in ("/v1/voices", "/v2/voices", "/v1/user", "/v1/user/subscription"):
        assert (await client.get(path)).status == 503
    for path in VENDOR_PATHS:
        assert (await client.speak(path)).status == 503


@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_hang_after_headers_sends_no_body(sim: Simulator, client: Client, path: str) -> None:
    seen = await client.speak(path, fault="hang-after-headers", leave=True)
    assert (seen.status, seen.body, seen.end) == (200, b"", End.LEFT)


async def test_slow_first_byte_delays_a_complete_answer(sim: Simulator, client: Client) -> None:
    whole = await healthy(client)
    assert (await client.speak(fault="slow-first-byte;seconds=0.02")).body == whole.body
    entry = sim.ledger[-1]
    assert entry.accepted is not None
    assert entry.first_byte is not None
    assert entry.first_byte - entry.accepted >= 0.02


async def test_stall_keeps_the_connection_open(sim: Simulator, client: Client) -> None:
    whole = await healthy(client)
    seen = await client.speak(fault="stall;after=0.8", leave=True)
    assert (seen.terminated, seen.end) == (False, End.LEFT)
    assert whole.body.startswith(seen.body)
    assert 0.4 < len(seen.body) / 16_000 <= 0.8, "whole parts only, none beyond"


async def test_stall_that_ends_loses_nothing(client: Client) -> None:
    whole = await healthy(client)
    seen = await client.speak(fault="stall;seconds=0.01")
    assert (seen.body, seen.terminated) == (whole.body, True)


async def test_drip_sends_single_bytes(client: Client) -> None:
    seen = await client.speak(STREAM, "Hi", fault="drip;bytes=64;every=0")
    assert {len(chunk) for chunk in seen.chunks[:-1]} == {64}
    assert words_in(seen.body, "pcm_8000") == ["Hi"]


async def test_drip_never_pauses_for_long(client: Client) -> None:
    seen = await client.speak(fault="drip;every=60", leave=True)
    assert (seen.chunks, seen.end) == ([seen.body[:1]], End.LEFT)


@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_cut_omits_the_last_chunk(client: Client, path: str) -> None:
    whole = await healthy(client, path)
    seen = await client.speak(path, fault="cut")
    assert (seen.status, seen.terminated, seen.end) == (200, False, End.CLOSED)
    assert seen.headers["transfer-encoding"] == "chunked"
    assert 0 < len(seen.body) < len(whole.body)
    assert whole.body.startswith(seen.body)


@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_terminated_cut_looks_complete(client: Client, path: str) -> None:
    whole = await healthy(client, path)
    seen = await client.speak(path, fault="cut-terminated")
    assert (seen.terminated, seen.end) == (True, End.CLOSED)
    assert 0 < len(seen.body) < len(whole.body)


@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_cut_by_closing_is_not_detectable(client: Client, path: str) -> None:
    whole = await healthy(client, path)
    seen = await client.speak(path, fault="cut-close")
    assert "content-length" not in seen.headers
    assert "transfer-encoding" not in seen.headers
    assert (seen.headers["connection"], seen.end) == ("close", End.CLOSED)
    assert 0 < len(seen.body) < len(whole.body)
    assert whole.body.startswith(seen.body)


async def test_cut_by_closing_closes_a_kept_connection(sim: Simulator) -> None:
    client = Client(sim.url, {"xi-api-key": "any", "connection": "keep-alive"})
    seen = await client.speak(fault="cut-close")
    assert (seen.headers["connection"], seen.end) == ("close", End.CLOSED)


@pytest.mark.parametrize("text", ["I", "a b"])
@pytest.mark.parametrize("name", ["cut", "cut-terminated", "cut-close", "half-line", "reset;after=0"])
async def test_shortest_text_is_cut_too(client: Client, name: str, text: str) -> None:
    whole = await client.speak(STREAM, text)
    assert len((await client.speak(STREAM, text, fault=name)).body) < len(whole.body)


@pytest.mark.parametrize("path", VENDOR_PATHS)
@pytest.mark.parametrize(("factor", "promised"), [(2, 2.0), (0.5, 0.5)])
async def test_wrong_length_is_declared_and_everything_sent(
    client: Client, path: str, factor: float, promised: float
) -> None:
    whole = await healthy(client, path)
    seen = await client.speak(path, fault=f"wrong-length;factor={factor}")
    assert int(seen.headers["content-length"]) == round(promised * len(whole.body))
    assert (seen.body, seen.end) == (whole.body, End.CLOSED)


@pytest.mark.parametrize(("factor", "promised"), [("1.00001", 1), ("0.99999", -1)])
async def test_wrong_length_differs_by_at_least_one_byte(client: Client, factor: str, promised: int) -> None:
    whole = await client.speak(STREAM, "I")
    seen = await client.speak(STREAM, "I", fault=f"wrong-length;factor={factor}")
    assert int(seen.headers["content-length"]) == len(whole.body) + promised


async def test_reset_before_the_answer(client: Client) -> None:
    seen = await client.speak(fault="reset")
    assert (seen.status, seen.end) == (0, End.RESET)


async def test_reset_in_mid_answer(client: Client) -> None:
    assert (await client.speak(fault="reset;after=0.5")).end is End.RESET


@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_empty_answer_with_a_length(client: Client, path: str) -> None:
    seen = await client.speak(path, fault="empty")
    assert (seen.status, seen.body, seen.terminated) == (200, b"", True)
    assert seen.headers["content-length"] == "0"


async def test_empty_chunked_answer(client: Client) -> None:
    seen = await client.speak(fault="empty;chunked=true")
    assert (seen.status, seen.chunks, seen.terminated) == (200, [], True)
    assert seen.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("declared", ["true", "false"])
async def test_json_instead_of_audio(client: Client, declared: str) -> None:
    seen = await client.speak(fault=f"json;declared={declared}")
    assert (seen.status, seen.json) == (200, {"status": "ok"})
    assert seen.headers["content-type"] == ("application/json" if declared == "true" else "audio/pcm")


@pytest.mark.parametrize("declared", ["true", "false"])
async def test_web_page_instead_of_audio(client: Client, declared: str) -> None:
    seen = await client.speak(fault=f"html;declared={declared}")
    assert (seen.status, seen.terminated) == (200, True)
    assert b"<title>502 Bad Gateway</title>" in seen.body
    assert seen.headers["content-type"] == ("text/html" if declared == "true" else "audio/pcm")


@pytest.mark.parametrize("path", [WHOLE, STREAM, OPENAI])
async def test_silent_audio_is_as_long_as_speech(client: Client, path: str) -> None:
    seen = await client.speak(path, fault="silent")
    assert seen.body == bytes(len((await healthy(client, path)).body))


async def test_too_short_audio_is_well_formed_and_has_the_first_words_only(client: Client) -> None:
    seen = await client.speak(fault="too-short;fraction=0.5")
    assert (seen.status, seen.terminated) == (200, True)
    heard = words_in(seen.body, "pcm_8000")
    assert heard == WORDS[: len(heard)]
    assert 3 <= len(heard) <= 6


async def test_header_only_wav(client: Client) -> None:
    path = f"/v1/text-to-speech/{GEORGE}?output_format=wav_16000"
    assert (await client.speak(path, fault="header-only")).body == wav_header(16_000, 0)


async def test_too_short_audio_of_no_characters_is_only_a_header(client: Client) -> None:
    path = f"/v1/text-to-speech/{GEORGE}?output_format=wav_16000"
    assert (await client.speak(path, fault="too-short;fraction=0")).body == wav_header(16_000, 0)


async def test_wrong_rate_of_raw_samples_plays_slowly(client: Client) -> None:
    seen = await client.speak(fault="wrong-rate;rate=24000")
    assert words_in(seen.body, "pcm_24000") == WORDS
    assert words_in(seen.body, "pcm_8000") == []


async def test_wrong_rate_differs_from_the_requested_one(client: Client) -> None:
    seen = await client.speak(fault="wrong-rate;rate=8000")
    assert words_in(seen.body, "pcm_24000") == WORDS


async def test_half_line_ends_properly(client: Client) -> None:
    seen = await client.speak(TIMED_STREAM, fault="half-line;after=0.5")
    assert seen.terminated
    *whole, half = seen.body.split(b"\n")
    assert whole
    assert all("audio_base64" in json.loads(line) for line in whole)
    assert half.startswith(b'{"audio_base64":')
    with pytest.raises(json.JSONDecodeError):
        json.loads(half)


async def test_error_in_place_of_a_line(client: Client) -> None:
    seen = await client.speak(TIMED_STREAM, fault="error-line;code=quota_exceeded;after=0.5")
    assert seen.terminated
    *whole, last = seen.lines
    assert whole
    assert all("audio_base64" in line for line in whole)
    assert last["detail"]["code"] == "quota_exceeded"


async def test_error_line_affects_the_shortest_text(client: Client) -> None:
    (line,) = (await client.speak(TIMED_STREAM, "I", fault="error-line")).lines
    assert line["detail"]["code"] == "internal_server_error"


async def test_error_in_place_of_an_event(client: Client) -> None:
    seen = await client.speak(OPENAI, fault="error-line;code=quota_exceeded", stream_format="sse")
    *deltas, last = [json.loads(line.removeprefix(b"data: ")) for line in seen.body.split(b"\n\n") if line]
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert last["type"] == "error"
    assert last["error"]["code"] == "insufficient_quota"


async def test_odd_splits_split_samples_and_lose_none(client: Client) -> None:
    seen = await client.speak(fault="odd-splits;bytes=333")
    assert {len(chunk) for chunk in seen.chunks[:-1]} == {333}
    assert seen.body == (await healthy(client)).body


@pytest.mark.parametrize("declared", ["true", "false"])
async def test_body_is_compressed_without_being_requested(client: Client, declared: str) -> None:
    seen = await client.speak(fault=f"gzip;declared={declared}")
    assert (seen.headers.get("content-encoding") == "gzip") is (declared == "true")
    assert gzip.decompress(seen.body) == (await healthy(client)).body


async def test_compressed_body_of_several_members(client: Client) -> None:
    seen = await client.speak(fault="gzip;members=3")
    assert seen.body.count(b"\x1f\x8b\x08\x00") >= 3
    assert gzip.decompress(seen.body) == (await healthy(client)).body


async def test_gzip_bomb_is_small_and_decompresses_to_much(client: Client) -> None:
    seen = await client.speak(fault="gzip-bomb;megabytes=3")
    assert len(seen.body) < 10_000
    assert gzip.decompress(seen.body) == bytes(3_000_000)


async def test_unknown_coding_is_only_declared(client: Client) -> None:
    seen = await client.speak(fault="unknown-coding;coding=zstd")
    assert seen.headers["content-encoding"] == "zstd"
    assert seen.body == (await healthy(client)).body


async def test_compressed_body_can_be_decoded_while_it_streams(client: Client) -> None:
    seen = await client.speak(fault="gzip")
    first = zlib.decompressobj(31).decompress(seen.chunks[0])
    assert first
    assert (await healthy(client)).body.startswith(first)


@pytest.mark.parametrize(
    "name", sorted(name for name, action in actions.ACTIONS.items() if actions.FaultTarget.HTTP in action.targets)
)
@pytest.mark.parametrize("path", VENDOR_PATHS)
async def test_next_request_is_served_after_every_fault(sim: Simulator, client: Client, name: str, path: str) -> None:
    sim.faults.set(Fault(actions.ACTIONS[name](), times=1))
    await client.speak(path, "One two three four five six", leave=True)
    await sim.idle()
    await healthy(client, path)
    faulty, served = sim.ledger
    assert faulty.fault == name
    assert faulty.ending is not Ending.RUNNING
    assert (served.fault, served.ending) == (None, Ending.COMPLETED)


SOUND: dict[str, Callable[[RawAnswer], bytes]] = {
    WHOLE: lambda seen: seen.body,
    STREAM: lambda seen: seen.body,
    TIMED_STREAM: lambda seen: b"".join(base64.b64decode(line["audio_base64"]) for line in seen.lines),
}


@pytest.mark.parametrize("path", SOUND)
async def test_audio_faults_apply_to_every_response_shape(client: Client, path: str) -> None:
    seen = await client.speak(path, fault="too-short")
    heard = words_in(SOUND[path](seen), "pcm_8000")
    assert 1 <= len(heard) < len(WORDS)
    assert heard == WORDS[: len(heard)]
