"""ElevenLabs, over its streaming HTTP endpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from steadyvoice.providers.base import Accepted, AudioChunk, Credit, SynthesisOffer
from steadyvoice.providers.credentials import credential_for, require_api_key, validate_concurrency
from steadyvoice.providers.http.client import MAX_ERROR_BODY, HTTPAudioResponse, HTTPClient, PreparedHTTPRequest
from steadyvoice.providers.http.urls import select_proxy, validate_base_url
from steadyvoice.providers.voices import VoiceMap, choose_voice, validate_voices
from steadyvoice.speech.errors import TTSConfigurationError, TTSError, TTSNotAudioError
from steadyvoice.speech.format import AudioFormat, Codec
from steadyvoice.speech.request import SpeechRequest
from steadyvoice.wire.elevenlabs.account import parse_subscription
from steadyvoice.wire.elevenlabs.catalog import MODELS, VOICES, get_model_info
from steadyvoice.wire.elevenlabs.errors import parse_error
from steadyvoice.wire.elevenlabs.speech import (
    BASE_URL,
    DIALECT,
    ENDPOINTS,
    KEY_HEADER,
    MAX_SPEED,
    MIN_SPEED,
    SUBSCRIPTION_PATH,
    SpeechEndpoint,
    encode_request,
    parse_response_headers,
    sets_voice_speed,
    speech_path,
)
from steadyvoice.wire.elevenlabs.timestamps import Timeline, parse_timed_audio
from steadyvoice.wire.error_response import get_header, seconds_until
from steadyvoice.wire.json_lines import JSONLineReader, StreamedLine

MIN_CONCURRENCY = 2
"""Requests that even the smallest plan takes at once: https://elevenlabs.io/docs/overview/models#concurrency-and-priority"""

_MAX_BYTES_WITHOUT_AUDIO = 1024 * 1024  # bytes of lines that bring no audio, one after the other

_MAX_UNIX_TIME = 1e15  # Unix seconds, far beyond what a datetime can tell
_MAX_RESET_DELAY = 100 * 365 * 86_400.0  # seconds: whoever names a later moment means none

_QUERY_CONNECT_TIMEOUT = 5.0  # seconds to connect, for a question that nobody waits for


class ElevenLabs:
    """Speaks with ElevenLabs' voices.

    Without `api_key`, ELEVENLABS_API_KEY of the environment is taken. `voices` maps the callers' names to voice ids,
    or to a `Voice` that tells more of them; its `default` is George unless it says otherwise. With `timestamps` the
    vendor always sends each character's times, for exact captions, for a third to a half more bytes; without, it
    does when a request wants them. `base_url` may be a residency host, such as https://api.eu.residency.elevenlabs.io.
    No more than `max_concurrency` requests run at once on this key, whatever its plan allows. `proxy` is the URL of an
    HTTP proxy; without one, the environment's is used (HTTPS_PROXY, NO_PROXY), unless `trust_env` is False.

    Raises TTSConfigurationError when a setting is missing or impossible.
    """

    local = False

    def __init__(
        self,
        api_key: str | None = None,
        *,
        name: str = "elevenlabs",
        base_url: str = BASE_URL,
        model: str = "eleven_flash_v2_5",
        voices: VoiceMap | None = None,
        timestamps: bool = False,
        max_concurrency: int | None = None,
        proxy: str | None = None,
        trust_env: bool = True,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not model:
            raise TTSConfigurationError(f"{name}.model: must not be empty")
        self.name = name
        self.model = model
        self.voices = validate_voices(voices, VOICES["George"], provider=name)
        self.base_url = validate_base_url(base_url, provider=name, endpoints=ENDPOINTS)
        self._timestamps = timestamps
        self._knows_times = True  # until a server shows that it does not: many imitate the rest only
        self._wall_clock = wall_clock
        self._key = require_api_key(api_key, "ELEVENLABS_API_KEY", provider=name)
        most = validate_concurrency(max_concurrency, provider=name)
        self.credential = credential_for(
            self._key, _account_host(self.base_url), initial_concurrency=most or MIN_CONCURRENCY, max_concurrency=most
        )
        headers = {KEY_HEADER: self._key}
        proxy = select_proxy(self.base_url, given=proxy, trust_env=trust_env, provider=name)
        self._http = HTTPClient(name, self.base_url, self._refused, headers=headers, proxy=proxy)

    def offer(self, request: SpeechRequest) -> SynthesisOffer:
        """Say how it would speak this: in the format asked for, or for one it has not, in samples of that rate."""
        asked = request.format
        native = asked.name in SpeechEndpoint.STREAM.formats
        wants_times = self._timestamps or request.timestamps
        model = request.model if request.model and request.model in MODELS else self.model
        facts = get_model_info(model)
        speeds = (MIN_SPEED, MAX_SPEED) if facts.takes_speed and not sets_voice_speed(request) else None
        choice = choose_voice(request, self.voices, DIALECT, provider=self.name, speeds=speeds)
        return SynthesisOffer(
            format=asked if native else AudioFormat(Codec.PCM, asked.sample_rate),
            voice=choice.voice.id,
            model=model,
            max_characters=facts.max_characters,
            scripts=facts.scripts,
            knows_voice=choice.known,
            declared=choice.voice,
            speed=choice.speed,
            gain=choice.gain,
            markup=facts.markup,
            source=self.base_url,
            timed=self._knows_times and wants_times,
            for_any_text=not wants_times,  # whether there are times is found out in use
        )

    async def speak(
        self, request: SpeechRequest, offer: SynthesisOffer, *, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak: one `Accepted`, then `Audio`. Raises TTSError."""
        if offer.timed:
            try:
                async with aclosing(self._timed(request, offer, connection_timeout)) as events:
                    async for event in events:
                        yield event
                return
            except TTSError as error:
                if not _is_unknown_endpoint(error):
                    raise
                self._knows_times = False
        prepared = self._prepare(SpeechEndpoint.STREAM, request, offer)
        with closing(await prepared.send(request.text, connection_timeout=connection_timeout)) as reply:
            yield reply.accepted
            while data := await reply.read():
                yield AudioChunk(data)

    def prepare(self, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest | None:
        """Make a request ready whose audio comes without times. Raises TTSBadRequestError."""
        return None if offer.timed else self._prepare(SpeechEndpoint.STREAM, request, offer)

    async def _timed(
        self, request: SpeechRequest, offer: SynthesisOffer, connection_timeout: float
    ) -> AsyncGenerator[Accepted | AudioChunk, None]:
        """Speak with times, if there are any in the answer."""
        prepared = self._prepare(SpeechEndpoint.TIMED_STREAM, request, offer)
        with closing(await prepared.send(request.text, connection_timeout=connection_timeout)) as reply:
            yield reply.accepted
            if (get_header(reply.headers, "content-type") or "").startswith("audio/"):
                while data := await reply.read():
                    yield AudioChunk(data)
                self._knows_times = False  # one bad answer, such as a web page labelled as audio, does not get here
                return
            lines, timeline, normalized, barren = JSONLineReader(), Timeline(), Timeline(), 0
            while data := await reply.read():
                before = lines.held
                come = lines.feed(data)
                barren += before + len(data) - lines.held
                for line in come:
                    begins = come if timeline.begun else [*come, lines.rest()]
                    audio = self._timed_audio(line, timeline, normalized, reply, begins)
                    yield audio
                    pieces = line.audio if isinstance(line, StreamedLine) else []
                    for piece in pieces:
                        yield AudioChunk(piece)
                    barren = 0 if audio.data or pieces else barren
                if barren > _MAX_BYTES_WITHOUT_AUDIO:
                    told = f"{barren} bytes of lines without audio (limit: {_MAX_BYTES_WITHOUT_AUDIO})"
                    raise TTSNotAudioError(told, provider=self.name, request_id=reply.accepted.request_id)
            if rest := lines.rest():
                yield self._timed_audio(rest, timeline, normalized, reply, [rest])
                for piece in rest.audio if isinstance(rest, StreamedLine) else []:
                    yield AudioChunk(piece)

    async def credit(self) -> Credit:
        """Ask for the account's credit, which is free. Raises TTSError: a key may not be allowed to know."""
        path = SUBSCRIPTION_PATH
        document, headers = await self._http.document_and_headers(path, connection_timeout=_QUERY_CONNECT_TIMEOUT)
        try:
            subscription = parse_subscription(document)
        except (ValueError, TypeError, AttributeError) as error:
            raise TTSNotAudioError(f"{path}: not as we know it: {error}", provider=self.name) from error
        return Credit(subscription.remaining, self._resets_at(subscription.next_reset_unix, headers))

    def _resets_at(self, told: Any, headers: Mapping[str, str]) -> datetime | None:
        """Read when there is new credit, by the vendor's clock. None if it makes no sense."""
        if isinstance(told, bool) or not isinstance(told, (int, float)) or not abs(told) < _MAX_UNIX_TIME:
            return None
        now = self._wall_clock()
        seconds = seconds_until(told, headers, now)
        return now + timedelta(seconds=seconds) if abs(seconds) <= _MAX_RESET_DELAY else None

    async def fetch_json(self, target: str) -> Any:
        """Ask something that is free, by its path and query: voices, models, the account. Raises TTSError."""
        return await self._http.document(target, connection_timeout=_QUERY_CONNECT_TIMEOUT)

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._http.aclose()

    def _prepare(self, form: SpeechEndpoint, request: SpeechRequest, offer: SynthesisOffer) -> PreparedHTTPRequest:
        call = encode_request(request, model_id=offer.model or self.model, output_format=offer.format.name)
        document = call.body()
        del document["text"]
        return self._http.prepare(
            speech_path(offer.voice, form),
            document,
            text="text",
            accepted=_accepted,
            params=call.params(),
            json_expected=form.timed,
        )

    def _timed_audio(
        self,
        line: bytes | StreamedLine,
        timeline: Timeline,
        normalized: Timeline,
        reply: HTTPAudioResponse,
        come: Sequence[bytes | StreamedLine],
    ) -> AudioChunk:
        """Read a line. Where not even the first brings audio, `come` is judged as any answer that is none."""
        try:
            timed = parse_timed_audio(_json_of_line(line), api_key=self._key, provider=self.name)
        except TTSError:
            if timeline.begun:
                raise
            raise self._refused(
                reply.status, reply.headers, b"\n".join(map(_json_of_line, come))[:MAX_ERROR_BODY]
            ) from None
        # Either may be missing from a line. Most texts are spoken as they are written, so one can stand for the other.
        alignment = timeline.placed(timed.alignment or timed.normalized)
        if timed.normalized == timed.alignment:
            return AudioChunk(timed.audio, alignment)
        return AudioChunk(timed.audio, alignment, normalized.placed(timed.normalized))

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> TTSError:
        return parse_error(status, headers, body, now=self._wall_clock(), api_key=self._key, provider=self.name)

    def __repr__(self) -> str:
        return f"ElevenLabs(name={self.name!r}, model={self.model!r}, base_url={self.base_url!r})"


def _account_host(base_url: str) -> str:
    """Where an account is kept: the vendor's own hosts are all one place."""
    parts = urlsplit(base_url)
    ours = f".{parts.hostname}".endswith(".elevenlabs.io")
    return "elevenlabs.io" if ours else parts.netloc


def _is_unknown_endpoint(error: TTSError) -> bool:
    """Whether the path itself is unknown: what the vendor knows of, it refuses with a code."""
    return error.status in (404, 405, 501) and error.code is None


def _json_of_line(line: bytes | StreamedLine) -> bytes:
    """The JSON of a line, without the audio of a long one, which is unpacked already."""
    return line.skeleton if isinstance(line, StreamedLine) else line


def _accepted(headers: Mapping[str, str]) -> Accepted:
    receipt = parse_response_headers(headers)
    return Accepted(
        request_id=receipt.request_id,
        characters_billed=receipt.character_cost,
        concurrent_requests=receipt.current_concurrent_requests,
        concurrency_limit=receipt.maximum_concurrent_requests,
        dialect=DIALECT,
    )
