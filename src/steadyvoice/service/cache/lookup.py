"""The cache at work: who asks for what is kept hears it at once, and who asks for what is being said joins in.

Whatever is wrong with the disk, the voice goes on: nothing in here raises because of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

from steadyvoice.service.cache.coalescing import CoalescedStream
from steadyvoice.service.cache.keys import CacheConfig, Recording, key_of, recorded, whole_voice
from steadyvoice.service.cache.store import Entry, Store
from steadyvoice.service.log_messages import log_cache_problem
from steadyvoice.service.options import UtterancePolicy
from steadyvoice.service.pipeline.utterance import Utterance
from steadyvoice.speech.request import SpeechRequest

T = TypeVar("T")

DISK_ERROR_PAUSE = 60.0
"""Seconds for which a cache that fails is left alone."""


class SpeechCache:
    """One service's cache: the recordings on disk, and what is being said right now."""

    def __init__(self, config: CacheConfig, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._config, self._clock, self._wall_clock = config, clock, wall_clock
        self._store = Store(config.folder, config.max_bytes)
        self._flights: dict[Hashable, CachedUtterance] = {}
        self._rests_until: float | None = None
        self._told: set[str] = set()
        self._counts = {"hits": 0, "misses": 0, "joined": 0, "kept": 0}
        self.trouble: str | None = None

    def state(self) -> dict[str, Any]:
        """How it is doing, ready for JSON."""
        return {"path": str(self._config.folder), **self._counts, "trouble": self.trouble}

    def board(self, caller: CachedUtterance) -> CachedUtterance:
        """Find who is saying the same to somebody in the same way, or have it said for this caller."""
        utterance, request = caller.utterance, caller.request
        keys = {provider.name: key_of(request, provider, offer) for provider, offer in utterance.offers}
        named = {name: key for name, key in keys.items() if key}
        # A loop's flights are no good to another loop, such as a forked child's.
        words = (asyncio.get_running_loop(), tuple(named.items()))
        for terms in _joinable_terms(caller.terms):
            if pilot := self._flights.get((words, terms)):
                self._counts["joined"] += 1
                return pilot
        same = (words, caller.terms)
        caller.flight = CoalescedStream(self._said(caller, named), self._most(caller), lambda: self._land(same, caller))
        if named:
            self._flights[same] = caller
        return caller

    def part(self) -> None:
        """From now on others speak: nobody joins in what is being said."""
        self._flights.clear()

    async def aclose(self) -> None:
        """Let go of the file."""
        await self._try(self._store.close, otherwise=None)

    def _land(self, same: Hashable, pilot: CachedUtterance) -> None:
        if self._flights.get(same) is pilot:
            del self._flights[same]

    async def _said(self, caller: CachedUtterance, keys: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Play what is kept of the first voice while that is fresh; otherwise speak, and keep what was said."""
        utterance = caller.utterance
        utterance.stopwatch.start()
        utterance.recordings = found = await self._found(keys)
        first = next(iter(keys), "")
        fresh = first in found and found[first].fresh
        whole: list[bytes] = []
        size, most = 0, self._most(caller)
        async with aclosing(utterance.play(first, found[first]) if fresh else utterance.chunks()) as chunks:
            async for data in chunks:
                size += len(data)
                if size <= most:
                    whole.append(data)
                else:
                    whole.clear()
                yield data
        self._counts["hits" if utterance.spoken.cached else "misses"] += 1
        if size <= most:
            audio = b"".join(whole)
            whole.clear()
            await self._keep(caller, keys, audio)

    def _most(self, caller: CachedUtterance) -> int:
        """Bytes that are held of what a caller hears, to be kept and for others to join in."""
        return min(self._store.largest, caller.terms.most_bytes)

    async def _found(self, keys: Mapping[str, str]) -> dict[str, Recording]:
        entries: dict[str, Entry] = await self._try(self._store.get, list(keys.values()), otherwise={})
        found = {}
        for name, key in keys.items():
            if entry := entries.get(key):
                fresh = self._config.fresh(entry.made, self._wall_clock())
                with suppress(ValueError, KeyError, TypeError):  # it means something else to another version
                    found[name] = Recording.unpacked(entry.audio, entry.account, fresh=fresh)
        return found

    async def _keep(self, caller: CachedUtterance, keys: Mapping[str, str], audio: bytes) -> None:
        spoken = caller.spoken
        voice = whole_voice(spoken, hold=caller.terms.hold)
        if voice is None or voice not in keys:
            return
        if not caller.utterance.is_cacheable(voice, spoken.duration):
            return
        recording = recorded(audio, caller.format, spoken)
        entry = Entry(keys[voice], self._wall_clock(), recording.packed(), recording.audio)
        if await self._try(self._store.put, entry, otherwise=False):
            self._counts["kept"] += 1

    async def _try(self, work: Callable[..., T], *given: Any, otherwise: T) -> T:
        """Do something with the disk, in a thread. What goes wrong is said once, and the disk is left alone a while."""
        if self._rests_until is not None and self._clock() < self._rests_until:
            return otherwise
        try:
            done = await asyncio.to_thread(work, *given)
        except (OSError, sqlite3.Error) as error:
            self._note(error)
            return otherwise
        self.trouble = self._rests_until = None
        return done

    def _note(self, error: OSError | sqlite3.Error) -> None:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return  # another process writes: there will be a next time
        self.trouble = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._rests_until = self._clock() + DISK_ERROR_PAUSE
        if self.trouble not in self._told:
            self._told.add(self.trouble)
            log_cache_problem(self._store.path, self.trouble)


class CachedUtterance:
    """One caller's utterance, by way of the cache. It looks to its caller as an Utterance does."""

    flight: CoalescedStream

    def __init__(
        self, utterance: Utterance, request: SpeechRequest, terms: UtterancePolicy, memory: SpeechCache
    ) -> None:
        self.utterance, self.request, self.terms = utterance, request, terms
        self.spoken, self.format = utterance.spoken, utterance.format
        self.finished = False
        self._memory = memory
        self._pilot: CachedUtterance | None = None  # whose flight it is, once that is known

    @property
    def delivered(self) -> float:
        """Seconds of audio that came so far."""
        return (self._pilot or self).utterance.delivered

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the audio, once, as an Utterance does."""
        self._pilot = pilot = self._memory.board(self)
        if pilot is not self:
            self.spoken.share_from(pilot.spoken)
        try:
            async with aclosing(pilot.flight.listen()) as chunks:
                async for data in chunks:
                    yield data
            self.finished = True
        finally:
            if pilot is self:
                self._pilot = None
            del pilot

    def close(self) -> None:
        """Let go of what it holds. The flight ends with its last listener, and closes what it has opened."""


def _joinable_terms(terms: UtterancePolicy) -> Iterator[UtterancePolicy]:
    """As what a caller may join in. Who waits for the whole can hear a stream out, if that survives its provider;
    who wants a stream is not made to wait for the whole.
    """
    yield terms
    if terms.hold and terms.on_midstream == "resume":
        yield replace(terms, hold=False)
