"""What a key may use, and what it uses: pure, with times handed in.

Requests are counted over the last 60 seconds, tokens by days of UTC, as budgets are. What is admitted may go
beyond the tokens of its day: how many it takes is known when it ends. Where a limit refuses, it says after
how long it will not; where that depends on what runs, after how long it is expected not to.
"""

from collections import deque
from dataclasses import dataclass, field

from workbench.errors import TooManyRequestsError

MINUTE_S = 60.0
DAY_S = 86_400
FIRST_GUESS_S = 1.0
"""How long a request takes, before one has ended."""
NEWEST_WEIGHT = 0.1
"""Of the request that has ended last, in the mean of how long they take."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None for no limit."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrency: int | None = None


@dataclass(slots=True)
class Running:
    """Requests under way, and how long one is expected to take."""

    count: int = 0
    _mean_s: float | None = None

    def begin(self) -> None:
        self.count += 1

    def end(self, took_s: float) -> None:
        self.count -= 1
        mean_s = took_s if self._mean_s is None else self._mean_s
        self._mean_s = mean_s + NEWEST_WEIGHT * (took_s - mean_s)

    def next_end_s(self) -> float:
        """Expected time until one of them ends: they began at times that don't depend on each other."""
        return (FIRST_GUESS_S if self._mean_s is None else self._mean_s) / max(1, self.count)


@dataclass(slots=True)
class Usage:
    """What one key uses. `now` is of a monotonic clock, `wall` are Unix seconds."""

    running: Running = field(default_factory=Running)
    day: int = 0
    day_tokens: int = 0
    last_used_at: float | None = None
    _begun: deque[float] = field(default_factory=deque)
    """When requests of the last minute began; none are kept without a limit, nor more than it."""

    def check(self, name: str, limits: Limits, now: float, wall: float) -> None:
        """Whether one more request may begin.

        Raises:
            TooManyRequestsError: it may not; which limit of the key `name` says so, and until when.
        """
        if limits.tokens_per_day is not None and self.tokens_of(day_of(wall)) >= limits.tokens_per_day:
            raise TooManyRequestsError(
                f"The key “{name}” has used its {limits.tokens_per_day:,} tokens of today. "
                "Its next day begins at midnight UTC.",
                DAY_S - wall % DAY_S,
            )
        if limits.requests_per_minute is not None:
            while self._begun and self._begun[0] <= now - MINUTE_S:
                self._begun.popleft()
            if len(self._begun) >= limits.requests_per_minute:
                raise TooManyRequestsError(
                    f"The key “{name}” has made {limits.requests_per_minute:,} requests in the last minute, "
                    "as many as it may.",
                    self._begun[0] + MINUTE_S - now,
                )
        if limits.concurrency is not None and self.running.count >= limits.concurrency:
            raise TooManyRequestsError(
                f"The key “{name}” has {limits.concurrency:,} requests under way, as many as it may.",
                self.running.next_end_s(),
            )

    def begin(self, limits: Limits, now: float) -> None:
        """A request that was checked begins."""
        if limits.requests_per_minute is not None:
            self._begun.append(now)
        self.running.begin()

    def charge(self, tokens: int, wall: float) -> None:
        """Add tokens to those of today."""
        today = day_of(wall)
        self.day, self.day_tokens = today, self.tokens_of(today) + tokens

    def tokens_of(self, day: int) -> int:
        """Tokens that were used on a day, if that is the last one."""
        return self.day_tokens if self.day == day else 0


def day_of(wall: float) -> int:
    """Days of UTC since 1970-01-01."""
    return int(wall // DAY_S)
