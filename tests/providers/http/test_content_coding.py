"""Compressed responses: decompressed in bounded steps and to their end, or refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import pytest

from steadyvoice.providers.base import CHUNK_SIZE
from steadyvoice.providers.http.client import MAX_DOCUMENT, HTTPClient
from steadyvoice.speech import errors as speech
from tests.providers.conftest import parse_vendor_error
from tests.providers.http.test_client import prepared_request, read
from tests.providers.scripted_vendor import ScriptedVendor, audio_response, chunked_response, http_response

SPEECH = bytes(range(256)) * 400
PLAIN = "application/octet-stream"

Ask = Callable[[], HTTPClient]


@pytest.fixture(params=["direct", "through a proxy"])
async def asked(request: pytest.FixtureRequest, vendor: ScriptedVendor) -> AsyncIterator[HTTPClient]:
    proxy = vendor.url if request.param == "through a proxy" else None
    client = HTTPClient(
        "vendor", "http://far.invalid" if proxy else vendor.url, parse_vendor_error, headers={"x-key": "k"}, proxy=proxy
    )
    yield client
    await client.aclose()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(SPEECH)),
    "x-gzip": ("x-gzip", gzip.compress(SPEECH)),
    "odd case and blanks": (" GZip ", gzip.compress(SPEECH)),
    "gzip behind identity": ("identity, gzip", gzip.compress(SPEECH)),
    "gzip of two members": ("gzip", gzip.compress(SPEECH[:1000]) + gzip.compress(SPEECH[1000:])),
    "gzip of many members": (
        "gzip",
        b"".join(gzip.compress(SPEECH[offset : offset + 512]) for offset in range(0, 102_400, 512)),
    ),
    "gzip with an empty member": ("gzip", gzip.compress(SPEECH) + gzip.compress(b"")),
    "deflate": ("deflate", zlib.compress(SPEECH)),
    "deflate without its wrapping": ("deflate", raw_deflate(SPEECH)),
    "identity": ("identity", SPEECH),
    "an empty name": ("", SPEECH),
    "commas and nothing else": (" , ", SPEECH),
}


@pytest.mark.parametrize("form", PACKED)
@pytest.mark.parametrize("size", [1, 7, 10_000, 1 << 20])
async def test_compressed_body_is_decompressed_to_its_end(
    form: str, size: int, vendor: ScriptedVendor, client: HTTPClient
) -> None:
    coding, packed = PACKED[form]
    if size == 1:
        packed = PACKED[form][1]
    pieces = [packed[offset : offset + size] for offset in range(0, len(packed), size)]
    vendor.enqueue(chunked_response(*pieces, content_encoding=coding))

    assert await read(client) == SPEECH


@pytest.mark.parametrize("form", PACKED)
async def test_compressed_body_is_decompressed_through_a_proxy(
    form: str, vendor: ScriptedVendor, asked: HTTPClient
) -> None:
    coding, packed = PACKED[form]
    vendor.enqueue(audio_response(packed, content_encoding=coding))

    assert await read(asked) == SPEECH


DAMAGED = {
    "cut gzip": ("gzip", gzip.compress(SPEECH)[:-9]),
    "gzip without its checksum": ("gzip", gzip.compress(SPEECH)[:-1]),
    "cut second member": ("gzip", gzip.compress(SPEECH) + gzip.compress(SPEECH)[:-9]),
    "second member of one byte": ("gzip", gzip.compress(SPEECH) + b"\x1f"),
    "garbage behind gzip": ("gzip", gzip.compress(SPEECH) + b"and more"),
    "zeros behind gzip": ("gzip", gzip.compress(SPEECH) + bytes(512)),
    "wrong checksum": ("gzip", gzip.compress(SPEECH)[:-8] + bytes(8)),
    "no gzip": ("gzip", SPEECH),
    "deflate sent as gzip": ("gzip", zlib.compress(SPEECH)),
    "gzip sent as deflate": ("deflate", gzip.compress(SPEECH)),
    "cut deflate": ("deflate", zlib.compress(SPEECH)[:-3]),
    "cut deflate without its wrapping": ("deflate", raw_deflate(SPEECH)[:-3]),
    "garbage behind deflate": ("deflate", zlib.compress(SPEECH) + b"and more"),
    "one byte of deflate": ("deflate", b"\x78"),
}


@pytest.mark.parametrize("form", DAMAGED)
async def test_damaged_compressed_body_is_an_error(form: str, vendor: ScriptedVendor, asked: HTTPClient) -> None:
    coding, packed = DAMAGED[form]
    vendor.enqueue(audio_response(packed, content_encoding=coding))

    with pytest.raises(speech.TTSCutError, match="compressed body"):
        await read(asked)


@pytest.mark.parametrize(
    "coding",
    [
        "br",
        "zstd",
        "compress",
        "BR",
        " br ",
        "gzip, br",
        "gzip, gzip",
        "deflate,gzip",
        "x-gzip ,  gzip",
        "\x7f",
        "br\t",
    ],
)
async def test_unsupported_coding_is_refused(coding: str, vendor: ScriptedVendor, asked: HTTPClient) -> None:
    vendor.enqueue(audio_response(SPEECH, content_encoding=coding))

    with pytest.raises(speech.TTSNotAudioError):
        await read(asked)


async def test_unsupported_coding_is_named_with_the_remedy(vendor: ScriptedVendor, asked: HTTPClient) -> None:
    vendor.enqueue(audio_response(SPEECH, content_encoding="zstd"))

    with pytest.raises(speech.TTSNotAudioError, match=r"'zstd'.*disable compression"):
        await read(asked)


async def test_repeated_content_encoding_headers_add_up(vendor: ScriptedVendor, client: HTTPClient) -> None:
    vendor.enqueue(audio_response(gzip.compress(SPEECH), content_encoding="gzip\r\nContent-Encoding: gzip"))
    vendor.enqueue(audio_response(gzip.compress(SPEECH), content_encoding="br\r\nContent-Encoding: identity"))
    vendor.enqueue(audio_response(gzip.compress(SPEECH), content_encoding="identity\r\nContent-Encoding: gzip"))

    for coding in ("gzip, gzip", "br"):
        with pytest.raises(speech.TTSNotAudioError, match=f"'{coding}'"):
            await read(client)
    assert await read(client) == SPEECH


async def test_compressed_transfer_coding_is_refused(vendor: ScriptedVendor, client: HTTPClient) -> None:
    packed = gzip.compress(SPEECH)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    vendor.enqueue(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: gzip, chunked\r\n\r\n" + body)

    with pytest.raises(speech.TTSNotAudioError, match="'gzip'"):
        await read(client)


async def test_compressed_error_body_is_read(vendor: ScriptedVendor, asked: HTTPClient) -> None:
    complaint = json.dumps({"detail": {"status": "quota_exceeded", "message": "all spent"}}).encode()
    vendor.enqueue(
        http_response(401, gzip.compress(complaint), content_type="application/json", content_encoding="gzip")
    )

    with pytest.raises(speech.TTSQuotaExceededError, match="all spent"):
        await read(asked)


@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_error_in_an_unsupported_coding_keeps_its_status(
    coding: str, vendor: ScriptedVendor, asked: HTTPClient
) -> None:
    vendor.enqueue(http_response(429, b"noise", content_type="application/json", content_encoding=coding))

    with pytest.raises(speech.TTSError) as failed:
        await read(asked)
    assert failed.value.status == 429


async def test_size_of_a_document_is_limited_after_decompression(vendor: ScriptedVendor, asked: HTTPClient) -> None:
    document = b'"' + b"x" * (MAX_DOCUMENT + 1) + b'"'
    vendor.enqueue(
        http_response(200, gzip.compress(document), content_type="application/json", content_encoding="gzip")
    )
    vendor.enqueue(
        http_response(200, gzip.compress(b'{"a": 1}'), content_type="application/json", content_encoding="gzip")
    )

    with pytest.raises(speech.TTSNotAudioError):
        await asked.document("/voices", connection_timeout=5.0)
    assert (await asked.document("/voices", connection_timeout=5.0)).value == {"a": 1}


BOMBS = {
    "gzip": ("gzip", gzip.compress(bytes(20_000_000), 9)),
    "gzip of many members": ("gzip", gzip.compress(bytes(100_000), 9) * 200),
    "deflate": ("deflate", zlib.compress(bytes(20_000_000), 9)),
}


@pytest.mark.parametrize("form", BOMBS)
async def test_decompression_bomb_yields_to_the_event_loop(
    form: str, vendor: ScriptedVendor, asked: HTTPClient
) -> None:
    coding, packed = BOMBS[form]
    vendor.enqueue(audio_response(packed, content_encoding=coding))

    sizes = list[int]()
    async with count_loop_iterations() as turns:
        with closing(await prepared_request(asked).send("Hi", connection_timeout=5.0)) as reply:
            while (data := reply.read_nowait() or await reply.read()) != b"":
                sizes.append(len(data))
        assert sum(sizes) == 20_000_000
        assert max(sizes) <= CHUNK_SIZE
        assert turns.count >= sum(sizes) / (2 * CHUNK_SIZE)


async def test_endless_empty_gzip_members_yield_to_the_event_loop(vendor: ScriptedVendor, asked: HTTPClient) -> None:
    vendor.enqueue(audio_response(gzip.compress(b"") * 100_000 + gzip.compress(b"speech"), content_encoding="gzip"))

    async with count_loop_iterations() as turns:
        assert await read(asked) == b"speech"
        assert turns.count >= 2_000_000 / (2 * CHUNK_SIZE)


class LoopIterations:
    """Counter of iterations of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._on = True
        self._loop.call_soon(self._turn)

    async def __aenter__(self) -> LoopIterations:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._on = False

    def _turn(self) -> None:
        self.count += 1
        if self._on:
            self._loop.call_soon(self._turn)


def count_loop_iterations() -> LoopIterations:
    return LoopIterations()
