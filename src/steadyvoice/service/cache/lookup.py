"""Cache lookup: recordings are played from disk, and equal requests that run at the same time share one stream.

Errors of the disk are logged and never raised: synthesis goes on without the cache.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

from steadyvoice.service.cache.coalescing import CoalescedStream
from steadyvoice.service.cache.keys import CacheConfig, cache_key, make_recording, sole_provider
from steadyvoice.service.cache.store import CacheEntry, CacheStore
from steadyvoice.service.log_messages import log_cache_problem
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.service.result import Recording
from steadyvoice.speech.request import SpeechRequest

T = TypeVar("T")

DISK_ERROR_PAUSE = 60.0
"""Seconds for which a failing disk is not used."""


class SpeechCache:
    """Speech cache of one service: recordings on disk, and the streams that run now."""

    def __init__(self, config: CacheConfig, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._config, self._clock, self._wall_clock = config, clock, wall_clock
        self._store = CacheStore(config.folder, config.max_bytes)
        self._running: dict[Hashable, CachedUtterance] = {}
        self._paused_until: float | None = None
        self._logged: set[str] = set()
        self._counts = {"hits": 0, "misses": 0, "joined": 0, "kept": 0}
        self.error_message: str | None = None

    def state(self) -> dict[str, Any]:
        """Return the counts and the last error, JSON-ready."""
        return {"path": str(self._config.folder), **self._counts, "error": self.error_message}

    def utterance(self, utterance: Utterance, request: SpeechRequest, policy: UtterancePolicy) -> CachedUtterance:
        """Return an utterance that is looked up here before it is spoken."""
        return CachedUtterance(utterance, request, policy, self)

    def join(self, caller: CachedUtterance) -> CachedUtterance:
        """Return the utterance whose stream a caller shares: a running one for the same speech, or the caller's own."""
        utterance, request = caller.utterance, caller.request
        keys = {provider.name: cache_key(request, provider, offer) for provider, offer in utterance.offers}
        named = {name: key for name, key in keys.items() if key}
        # A stream runs in its event loop, so another loop, such as a forked child's, needs its own.
        speech_key = (asyncio.get_running_loop(), tuple(named.items()))
        for policy in _joinable_policies(caller.policy):
            if owner := self._running.get((speech_key, policy)):
                self._counts["joined"] += 1
                return owner
        stream_key = (speech_key, caller.policy)
        caller.stream = CoalescedStream(
            self._speak(caller, named), self._max_bytes(caller), lambda: self._remove(stream_key, caller)
        )
        if named:
            self._running[stream_key] = caller
        return caller

    def close_running(self) -> None:
        """Let no further caller join the running streams, because the providers have changed."""
        self._running.clear()

    async def aclose(self) -> None:
        """Close the file."""
        await self._run_on_disk(self._store.close, otherwise=None)

    def _remove(self, stream_key: Hashable, owner: CachedUtterance) -> None:
        if self._running.get(stream_key) is owner:
            del self._running[stream_key]

    async def _speak(self, caller: CachedUtterance, keys: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Yield the recording of the first voice while it is fresh; otherwise synthesize, and store the result."""
        utterance = caller.utterance
        utterance.stopwatch.start()
        utterance.recordings = recordings = await self._load(keys)
        first = next(iter(keys), "")
        fresh = first in recordings and recordings[first].fresh
        chunks_to_store: list[bytes] = []
        size, max_bytes = 0, self._max_bytes(caller)
        async with aclosing(utterance.play(first, recordings[first]) if fresh else utterance.chunks()) as chunks:
            async for data in chunks:
                size += len(data)
                if size <= max_bytes:
                    chunks_to_store.append(data)
                else:
                    chunks_to_store.clear()
                yield data
        self._counts["hits" if utterance.report.cached else "misses"] += 1
        if size <= max_bytes:
            audio = b"".join(chunks_to_store)
            chunks_to_store.clear()
            await self._store_recording(caller, keys, audio)

    def _max_bytes(self, caller: CachedUtterance) -> int:
        """Return the most bytes that are kept of an utterance, to be stored and for others to join."""
        return min(self._store.largest, caller.policy.max_audio_bytes)

    async def _load(self, keys: Mapping[str, str]) -> dict[str, Recording]:
        entries: dict[str, CacheEntry] = await self._run_on_disk(self._store.get, list(keys.values()), otherwise={})
        recordings = {}
        for name, key in keys.items():
            if entry := entries.get(key):
                fresh = self._config.fresh(entry.made, self._wall_clock())
                with suppress(ValueError, KeyError, TypeError):  # written by another version
                    recordings[name] = Recording.unpacked(entry.audio, entry.account, fresh=fresh)
        return recordings

    async def _store_recording(self, caller: CachedUtterance, keys: Mapping[str, str], audio: bytes) -> None:
        report = caller.report
        voice = sole_provider(report, hold=caller.policy.hold)
        if voice is None or voice not in keys:
            return
        if not caller.utterance.is_cacheable(voice, report.duration):
            return
        recording = make_recording(audio, caller.format, report)
        entry = CacheEntry(keys[voice], self._wall_clock(), recording.packed(), recording.audio)
        if await self._run_on_disk(self._store.put, entry, otherwise=False):
            self._counts["kept"] += 1

    async def _run_on_disk(self, work: Callable[..., T], *args: Any, otherwise: T) -> T:
        """Run a disk operation in a thread. An error is logged once, and the disk is not used for a while."""
        if self._paused_until is not None and self._clock() < self._paused_until:
            return otherwise
        try:
            # A slow disk must not stop the event loop; the thread costs a tenth of a millisecond a hit (decision 16).
            result = await asyncio.to_thread(work, *args)
        except (OSError, sqlite3.Error) as error:
            self._record_error(error)
            return otherwise
        self.error_message = self._paused_until = None
        return result

    def _record_error(self, error: OSError | sqlite3.Error) -> None:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return  # another process writes: the next request may store it
        self.error_message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._paused_until = self._clock() + DISK_ERROR_PAUSE
        if self.error_message not in self._logged:
            self._logged.add(self.error_message)
            log_cache_problem(self._store.path, self.error_message)


class CachedUtterance:
    """Utterance that goes through the cache, with the interface of an Utterance."""

    stream: CoalescedStream

    def __init__(
        self, utterance: Utterance, request: SpeechRequest, policy: UtterancePolicy, cache: SpeechCache
    ) -> None:
        self.utterance, self.request, self.policy = utterance, request, policy
        self.report, self.format = utterance.report, utterance.format
        self.finished = False
        self._cache = cache
        self._owner: CachedUtterance | None = None  # the utterance whose stream is read

    @property
    def delivered(self) -> float:
        """Seconds of audio delivered so far."""
        return (self._owner or self).utterance.delivered

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio, once, as an Utterance does."""
        self._owner = owner = self._cache.join(self)
        if owner is not self:
            self.report.share_from(owner.report)
        try:
            async with aclosing(owner.stream.subscribe()) as chunks:
                async for data in chunks:
                    yield data
            self.finished = True
        finally:
            if owner is self:
                self._owner = None
            del owner

    def close(self) -> None:
        """Do nothing: the shared stream ends with its last consumer, and releases what it holds."""


def _joinable_policies(policy: UtterancePolicy) -> Iterator[UtterancePolicy]:
    """Yield the policies of utterances that a caller may join, its own first.

    A caller that waits for the whole can read a stream to its end, if that survives a failure of its provider; a caller
    that wants a stream is not made to wait for the whole.
    """
    yield policy
    if policy.hold and policy.on_midstream == "resume":
        yield replace(policy, hold=False)
