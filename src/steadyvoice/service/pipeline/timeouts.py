"""Timeout settings, the deadline of one utterance, and a timer for many short waits. All in seconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from steadyvoice.providers.base import HasTimeouts, Provider
from steadyvoice.speech.errors import TTSConfigurationError

ATTEMPT_SHARE = 0.8
"""What one attempt may use of the time that remains, while somebody else could still take over."""

LOCAL_GRACE = 5.0
"""A local voice is tried even when the time is up; this bounds it."""


FAILOVER_AFTER = 8.0
"""Seconds until the first audio while another provider is left, unless something else is set. A healthy vendor takes
well under three; a caller who hears nothing for ten hangs up.
"""


class _NotSet(float):
    """A number of seconds that nobody has set."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TimeoutConfig:
    """The clocks of speech.

    `connection_timeout` bounds connecting; `first_audio_timeout` the wait from request to first decodable audio;
    `stall_timeout` the silence between chunks (`read_timeout` when None); `slow_timeout` how long a stream
    may come slower than it is played, once nothing is left to play; `total_timeout` the whole utterance, all
    attempts together, plus the seconds of audio already delivered. Waiting for the listener stops them all.

    Without `first_audio_timeout`, that is 8 s while another provider is left and `read_timeout` was not set, else
    `read_timeout`. `character_timeout` is added to it for each character of the text where a provider cannot stream.

    `overdue_after` ends no call. It is the silence after which a caller who leaves is evidence against the provider,
    while too few first audios of the voice are known to tell what is usual.

    Raises TTSConfigurationError.
    """

    connection_timeout: float = 10.0
    read_timeout: float = _NotSet(30.0)
    total_timeout: float = 45.0
    first_audio_timeout: float | None = None
    stall_timeout: float | None = None
    slow_timeout: float = 3.0
    overdue_after: float = 3.0
    character_timeout: float = 0.03

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TTSConfigurationError(f"{field.name}: must be a number of seconds, got {value!r}")
            if not (math.isfinite(value) and value > 0):
                raise TTSConfigurationError(f"{field.name}: must be more than 0 seconds, got {value}")

    @classmethod
    def conversation(cls) -> TimeoutConfig:
        """For voice agents: whoever waits for an answer hears the next voice after two seconds and a half.

        Connecting may lose one packet, which is sent again after a second. Healthy first audio comes within one second
        and a half, and a gap of two seconds in speech is taken for its end. What is not spoken after 15 s is not
        waited for any more.
        """
        return cls(
            connection_timeout=2.0,
            read_timeout=5.0,
            total_timeout=15.0,
            first_audio_timeout=2.5,
            stall_timeout=2.0,
            slow_timeout=2.0,
        )

    @property
    def first_audio(self) -> float:
        """Seconds until the first audio while no other provider is left."""
        return self.read_timeout if self.first_audio_timeout is None else self.first_audio_timeout

    @property
    def read_timeout_is_set(self) -> bool:
        """Whether `read_timeout` was given, even if as what it would be anyway."""
        return not isinstance(self.read_timeout, _NotSet)

    def first_audio_while(self, *, others: bool) -> float:
        """Seconds until the first audio; `others` tells whether another provider is left."""
        if self.first_audio_timeout is not None:
            return self.first_audio_timeout
        return FAILOVER_AFTER if others and not self.read_timeout_is_set else self.read_timeout

    def laid_over(self, own: Mapping[str, float | None]) -> TimeoutConfig:
        """Return the same with a provider's own fields. Raises TTSConfigurationError that names the field."""
        names = [field.name for field in fields(self)]
        for name in own:
            if name not in names:
                near = get_close_matches(name, names, 1)
                hint = f"; did you mean {near[0]}?" if near else f": there is {', '.join(names)}"
                raise TTSConfigurationError(f"{name}: unknown key{hint}")
        return replace(self, **cast("dict[str, Any]", own))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the seconds in force: for the first audio while another provider is left, and `alone`."""
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


def provider_timeouts(provider: Provider, general: TimeoutConfig, own: Mapping[str, float | None]) -> TimeoutConfig:
    """Return one provider's timeouts: its `own` fields win over the `general` ones.

    What both leave open, its class may say (see HasTimeouts). Raises TTSConfigurationError.
    """
    timeouts = general.laid_over(own)
    if isinstance(provider, HasTimeouts) and not timeouts.read_timeout_is_set:
        for name, seconds in provider.timeouts.items():
            if name not in ("first_audio_timeout", "stall_timeout"):
                told = "a kind of provider may have first_audio_timeout and stall_timeout"
                raise TTSConfigurationError(f"{provider.name}.timeouts.{name}: {told}")
            if getattr(timeouts, name) is None:
                timeouts = timeouts.laid_over({name: seconds})
    return timeouts


class Stopwatch:
    """Seconds of wall-clock time of one utterance, except those in which its consumer kept it waiting."""

    __slots__ = ("_clock", "before", "extends", "since")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.before = 0.0
        """Seconds counted before it was started last."""
        self.since: float | None = None
        """When that was, by the clock. None: it stands still."""
        self.extends = True
        """Whether audio that came gives more time: not while a caller who has heard nothing waits for a deadline."""

    def start(self) -> None:
        """Count from here on. Starting twice changes nothing."""
        if self.since is None:
            self.since = self._clock()

    def stop(self) -> None:
        """Count no longer: the consumer has what it asked for. Stopping twice changes nothing."""
        if self.since is not None:
            self.before += self._clock() - self.since
            self.since = None

    def at(self, now: float) -> float:
        """Seconds counted until `now`, a reading of the clock."""
        return self.before if self.since is None else self.before + now - self.since

    @property
    def now(self) -> float:
        """Seconds counted so far."""
        return self.at(self._clock())


class Deadline:
    """Time left of a share of an utterance's: what was given, and a second more for each second of audio delivered.

    It is spent by the stopwatch, whatever happens meanwhile.
    """

    __slots__ = ("_began", "_watch", "delivered", "given")

    def __init__(self, given: float, watch: Stopwatch) -> None:
        self.given = given
        self.delivered = 0.0
        self._watch = watch
        self._began = watch.now

    @property
    def spent(self) -> float:
        """Seconds since it was given."""
        return self._watch.now - self._began

    def spent_at(self, now: float) -> float:
        """The same at `now`, a reading of the clock."""
        return self._watch.at(now) - self._began

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self.given + (self.delivered if self._watch.extends else 0.0) - self.spent

    def left_at(self, now: float) -> float:
        """The same at `now`, a reading of the clock."""
        watch = self._watch  # read here, not asked: this is done for each chunk
        spent = watch.before if watch.since is None else watch.before + now - watch.since
        return self.given + (self.delivered if watch.extends else 0.0) + self._began - spent

    def share(self, given: float) -> Deadline:
        """Give away so many seconds of it, from now on."""
        return Deadline(given, self._watch)

    def copy(self) -> Deadline:
        """Another one with as much left, for audio that is delivered elsewhere."""
        other = Deadline(self.given, self._watch)
        other._began, other.delivered = self._began, self.delivered
        return other


def check_deadline(deadline: float | None) -> float | None:
    """Refuse a deadline that is no time at all."""
    if deadline is None:
        return None
    if isinstance(deadline, bool) or not isinstance(deadline, int | float):
        raise TTSConfigurationError(f"deadline: must be a number of seconds, got {deadline!r}")
    if not (math.isfinite(deadline) and deadline > 0):
        raise TTSConfigurationError(f"deadline: must be more than 0 seconds, got {deadline}")
    return float(deadline)


T = TypeVar("T")

_LOOP_CLOCK_RESOLUTION = 0.001  # seconds by which it may ring late: event loops read their clock once a turn

_LATE_BY = 0.02  # seconds; a timer that is called later than this was kept waiting by the loop
_LOOP_TURNS = 3
"""Turns of the loop that are waited for then: what is awaited may lie unread in the socket. A turn polls for I/O before
or after it runs what is due (asyncio, uvloop), and who waits is woken one turn after the poll.
"""


class WaitTimer:
    """Ends waits that take too long, as `asyncio.timeout` does: by a cancellation that is taken back."""

    __slots__ = ("_at", "_due", "_handle", "_left", "_task", "_turns", "expired")

    def __init__(self) -> None:
        self.expired = False
        """Whether the last wait was cut short."""
        self._due = math.inf  # of the wait at hand
        self._at = math.inf  # when the timer fires, which may be sooner
        self._handle: asyncio.Handle | None = None
        self._turns = _LOOP_TURNS  # that are left before a late ring is believed
        self._task: asyncio.Task[Any] | None = None  # that waits now
        self._left: Callable[[], float] | None = None

    async def wait(self, seconds: float, awaited: Awaitable[T], left: Callable[[], float] | None = None) -> T:
        """Wait for this, for so many seconds at most. Raises TimeoutError when they are over.

        `left` is asked then whether there are any more by now: they may have become more, and never less. A negative
        number ends the wait at once, even if the loop was late.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - coroutines run in tasks
        before = task.cancelling()
        self._left = left
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
            self._task = self._left = None
            del task  # a cancelled one keeps its CancelledError, whose traceback keeps this frame

    def close(self) -> None:
        """Nobody waits any more."""
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
            self._at, self._handle = due, loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._handle = None
        if (task := self._task) is None:
            return
        loop = task.get_loop()
        late = loop.time() - self._due
        if late < 0:
            self._set(loop, self._due)
            return
        left = self._left() if self._left else 0.0
        if left > _LOOP_CLOCK_RESOLUTION:
            self._due = loop.time() + left
            self._turns = _LOOP_TURNS
            self._set(loop, self._due)
        elif left >= 0 and self._turns and (late > _LATE_BY or self._turns < _LOOP_TURNS):
            self._turns -= 1
            self._at, self._handle = -math.inf, loop.call_soon(self._ring)
        else:
            self.expired = True
            task.cancel()
