"""Timeout settings and presets, the deadline of one utterance, and a timer for many short waits. All in seconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from steadyvoice._option_rules import POSITIVE_SECONDS
from steadyvoice.providers.base import HasTimeouts, Provider
from steadyvoice.speech.errors import TTSConfigurationError
from steadyvoice.speech.option_validation import validate_option

FAILOVER_AFTER = 8.0
"""Seconds until the first audio while another provider is left, unless a timeout is configured. A healthy vendor takes
well under three; callers hang up after ten seconds of silence.
"""


class _NotSet(float):
    """Default number of seconds, distinguishable from the same number set by the user."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """Timeouts of speech synthesis, in seconds.

    `connection_timeout` bounds connecting; `first_audio_timeout` the wait from request to first decodable audio;
    `stall_timeout` the silence between chunks (`read_timeout` when None); `slow_timeout` how long a stream may arrive
    slower than it is played, once nothing is left to play; `total_timeout` the whole utterance, all attempts together,
    plus the seconds of audio already delivered. Time in which the consumer does not read counts for none of them.

    Without `first_audio_timeout`, that limit is 8 s while another provider is left and `read_timeout` was not set, else
    `read_timeout`. `character_timeout` is added to it for each character of the text where a provider cannot stream.

    `overdue_after` ends no call. It is the silence after which a caller's hanging up counts against the provider, while
    too few first audios of the voice are known to tell what is usual.

    Raises TTSConfigurationError.
    """

    connection_timeout: float = 10.0  # seconds for connecting
    read_timeout: float = _NotSet(30.0)  # seconds of silence, where the next two are not set
    total_timeout: float = 45.0
    """Seconds for the whole utterance, all attempts together, plus the seconds of audio delivered."""
    first_audio_timeout: float | None = None
    """Seconds from the request to the first decodable audio; if absent, 8 while another provider is left and
    `read_timeout` is not set, else `read_timeout`."""
    stall_timeout: float | None = None  # seconds of silence between two chunks; `read_timeout` if absent
    slow_timeout: float = 3.0  # seconds that a stream may be slower than it is played, with nothing left to play
    overdue_after: float = 3.0  # seconds of silence after which a caller who leaves counts against the provider
    character_timeout: float = 0.03
    """Seconds added to the first audio for each character, where the provider cannot stream."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            validate_option(field.name, value, POSITIVE_SECONDS)

    @classmethod
    def conversation(cls) -> TimeoutConfig:
        """Return timeouts for voice agents: failover after 2 seconds of silence.

        Connecting may lose one packet, which TCP sends again after a second. Healthy first audio comes within a second
        and a half, and a vendor that sends nothing for a second in mid-answer has hung: audio comes faster than it is
        played. Nothing is worth waiting for after 15 seconds.
        """
        return cls(
            connection_timeout=2.0,
            read_timeout=5.0,
            total_timeout=15.0,
            first_audio_timeout=2.0,
            stall_timeout=1.0,
            slow_timeout=2.0,
        )

    @property
    def first_audio(self) -> float:
        """Seconds until the first audio while no other provider is left."""
        return self.read_timeout if self.first_audio_timeout is None else self.first_audio_timeout

    @property
    def read_timeout_is_set(self) -> bool:
        """True if `read_timeout` was set, even to its default."""
        return not isinstance(self.read_timeout, _NotSet)

    def first_audio_while(self, *, others: bool) -> float:
        """Return the seconds until the first audio; `others` tells whether another provider is left."""
        if self.first_audio_timeout is not None:
            return self.first_audio_timeout
        return FAILOVER_AFTER if others and not self.read_timeout_is_set else self.read_timeout

    def laid_over(self, overrides: Mapping[str, float | None]) -> TimeoutConfig:
        """Return a copy in which a provider's own fields replace the general ones.

        Raises TTSConfigurationError, which names the field.
        """
        names = [field.name for field in fields(self)]
        for name in overrides:
            if name not in names:
                near = get_close_matches(name, names, 1)
                hint = f"; did you mean {near[0]}?" if near else f": there is {', '.join(names)}"
                raise TTSConfigurationError(f"{name}: unknown key{hint}")
        return replace(self, **cast("dict[str, Any]", overrides))

    def as_dict(self) -> dict[str, Any]:
        """Return the seconds in force as JSON-ready values: for the first audio while another provider is left, and
        `alone`.
        """
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "read_timeout": float(self.read_timeout),
            "first_audio_timeout": self.first_audio_while(others=True),
            "first_audio_timeout_alone": self.first_audio,
            "stall_timeout": self.stall,
        }

    @property
    def stall(self) -> float:
        """Seconds of silence between two chunks."""
        return self.read_timeout if self.stall_timeout is None else self.stall_timeout


def provider_timeouts(
    provider: Provider, general: TimeoutConfig, overrides: Mapping[str, float | None]
) -> TimeoutConfig:
    """Return one provider's timeouts: its `overrides` replace the `general` ones.

    Fields that neither sets default to those of the provider's class (see HasTimeouts). Raises TTSConfigurationError.
    """
    timeouts = general.laid_over(overrides)
    if isinstance(provider, HasTimeouts) and not timeouts.read_timeout_is_set:
        for name, seconds in provider.timeouts.items():
            if name not in ("first_audio_timeout", "stall_timeout"):
                message = "a kind of provider may have first_audio_timeout and stall_timeout"
                raise TTSConfigurationError(f"{provider.name}.timeouts.{name}: {message}")
            if getattr(timeouts, name) is None:
                timeouts = timeouts.laid_over({name: seconds})
    return timeouts


class Stopwatch:
    """Wall-clock seconds of one utterance, without those in which its consumer did not read."""

    __slots__ = ("_clock", "before", "extends", "since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.before = 0.0
        """Seconds counted before the last start."""
        self.since: float | None = None
        """Clock reading of the last start; None while stopped."""
        self.extends = True
        """Whether delivered audio extends deadlines.

        False while a caller with a deadline of its own has heard nothing: audio that is held back is no progress to it.
        """

    def start(self) -> None:
        """Start counting. Has no effect while running."""
        if self.since is None:
            self.since = self._clock()

    def stop(self) -> None:
        """Stop counting while the consumer has its audio. Has no effect while stopped."""
        if self.since is not None:
            self.before += self._clock() - self.since
            self.since = None

    def at(self, now: float) -> float:
        """Return the seconds counted until `now`, a reading of the clock."""
        return self.before if self.since is None else self.before + now - self.since

    @property
    def now(self) -> float:
        """Seconds counted so far."""
        return self.at(self._clock())


class Deadline:
    """Deadline of an utterance, or of one attempt: a number of seconds, and one more for each second of delivered
    audio.

    Time is counted by the stopwatch, whatever happens meanwhile.
    """

    __slots__ = ("_began", "delivered", "seconds", "stopwatch")

    def __init__(self, seconds: float, stopwatch: Stopwatch, began: float | None = None) -> None:
        self.seconds = seconds
        self.delivered = 0.0
        self.stopwatch = stopwatch
        self._began = stopwatch.now if began is None else began

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return self.stopwatch.now - self._began

    def elapsed_at(self, now: float) -> float:
        """Return the seconds elapsed at `now`, a reading of the clock."""
        return self.stopwatch.at(now) - self._began

    @property
    def remaining(self) -> float:
        """Seconds that remain, negative once the deadline has passed."""
        return self.seconds + (self.delivered if self.stopwatch.extends else 0.0) - self.elapsed

    def remaining_at(self, now: float) -> float:
        """Return the seconds that remain at `now`, a reading of the clock."""
        # The stopwatch is read here instead of called, because this runs for each chunk: the wall-clock deadlines had
        # added 26 Python calls to each, and four remain.
        stopwatch = self.stopwatch
        elapsed = stopwatch.before if stopwatch.since is None else stopwatch.before + now - stopwatch.since
        return self.seconds + (self.delivered if stopwatch.extends else 0.0) + self._began - elapsed

    def share(self, seconds: float) -> Deadline:
        """Return a deadline for one attempt that starts now, in seconds."""
        return Deadline(seconds, self.stopwatch)

    def copy(self) -> Deadline:
        """Return a deadline with the same time left, which audio delivered elsewhere does not extend."""
        other = Deadline(self.seconds, self.stopwatch)
        other._began, other.delivered = self._began, self.delivered
        return other


def check_deadline(deadline: float | None) -> float | None:
    """Return the deadline in seconds, or None. Raises TTSConfigurationError unless it is a positive number."""
    if deadline is None:
        return None
    return float(validate_option("deadline", deadline, POSITIVE_SECONDS))


T = TypeVar("T")

_LOOP_CLOCK_RESOLUTION = 0.001  # seconds by which a timer may be late: event loops read their clock once a turn

_LATE_BY = 0.02  # seconds; a timer that fires later than this was kept waiting by the loop
_LOOP_TURNS = 3
"""Turns of the loop to wait once a timer has fired late: what is awaited may lie unread in the socket.

A turn polls for I/O before or after it runs what is due (asyncio, uvloop), and the waiting task is woken one turn after
the poll.
"""


class WaitTimer:
    """Timer for many short waits in a row, one handle for all of them.

    Like `asyncio.timeout`, it ends a wait by a cancellation that is taken back. That one sets and cancels a timer for
    each wait; a stream waits for every few kilobytes and hardly ever too long, so this timer is set once and looked at
    when it fires.
    """

    __slots__ = ("_at", "_due", "_handle", "_remaining", "_task", "_turns", "expired")

    def __init__(self) -> None:
        self.expired = False
        """Whether the last wait was cut short."""
        self._due = math.inf  # end of the present wait
        self._at = math.inf  # when the handle fires, possibly sooner than the wait ends
        self._handle: asyncio.Handle | None = None
        self._turns = _LOOP_TURNS  # left before a late timer is believed
        self._task: asyncio.Task[Any] | None = None  # waiting now
        self._remaining: Callable[[], float] | None = None

    async def wait(self, seconds: float, awaited: Awaitable[T], remaining: Callable[[], float] | None = None) -> T:
        """Await an awaitable for at most so many seconds. Raises TimeoutError.

        `remaining` is called when the time is up and returns further seconds, if the limit has moved meanwhile; it may
        only have grown. A negative number ends the wait at once, even if the loop was late.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - coroutines run in tasks
        before = task.cancelling()
        self._remaining = remaining
        self._begin(task, loop, seconds)
        try:
            return await awaited
        except asyncio.CancelledError:
            if self.expired and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        except BaseException:
            if self.expired:
                task.uncancel()
            raise
        finally:
            self._task = self._remaining = None
            # A cancelled task keeps its CancelledError, whose traceback keeps this frame: without this, a cycle that
            # only the garbage collector ends.
            del task

    def shorten(self, seconds: float) -> None:
        """Let the present wait, if there is one, end in so many seconds."""
        if self._task:
            self._begin(self._task, self._task.get_loop(), seconds)

    def close(self) -> None:
        """Cancel the handle."""
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _begin(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._due = due = loop.time() + seconds
        self._task, self.expired, self._turns = task, False, _LOOP_TURNS
        if self._handle is None or due < self._at - _LOOP_CLOCK_RESOLUTION:
            self.close()
            self._set(loop, due)

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if due < math.inf:
            self._at, self._handle = due, loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if (task := self._task) is None:
            return
        loop = task.get_loop()
        late = loop.time() - self._due
        if late < 0:
            self._set(loop, self._due)
            return
        remaining = self._remaining() if self._remaining else 0.0
        if remaining > _LOOP_CLOCK_RESOLUTION:
            self._due = loop.time() + remaining
            self._turns = _LOOP_TURNS
            self._set(loop, self._due)
        # A late timer says that this process had no time, not that the provider sent nothing: its bytes may lie unread
        # in the socket (decision 25).
        elif remaining >= 0 and self._turns and (late > _LATE_BY or self._turns < _LOOP_TURNS):
            self._turns -= 1
            self._at, self._handle = -math.inf, loop.call_soon(self._fire)
        else:
            self.expired = True
            task.cancel()
