"""In which order requests go ahead. Pure: no clock, no waiting; times are monotonic seconds.

A request is given its rank once, when it arrives, and lower ranks go first, at the pool and in the engine:

    rank = arrival + delay, with 0 <= delay <= limit_s

1. fcfs: the delay is 0, so that the order is that of arrival.
2. priority: half of the limit for priority 0, less for lower ones, which are urgent, more for higher ones.
3. sjf, shortest job first: the more, the more tokens prompt and answer are expected to have.
4. fair: the more, the more tokens the request's owner has had of late, or waits for, beyond the others.

So a request is overtaken by none that comes `limit_s` after it, whatever the policy: waiting is never
endless. To age, a request needs no update, and the engine's queue would have no way to give it one.

What an owner has had (4) is counted by start-time fair queueing: a request's start tag is the end of its
owner's last request, or the virtual time if that is later; its end is its start and its tokens. The delay
grows with the distance of the start tag from the virtual time, so that requests that arrive together go in
the order of their start tags. As the engine does not tell when it begins with a request, virtual time is the
latest start tag of those that have ended. P. Goyal, H. M. Vin, H. Cheng: Start-time fair queueing. SIGCOMM
1996. For several in service at once: W. Jin, J. S. Chase, J. Kaur: Interposed proportional sharing for a
storage service utility. SIGMETRICS 2004.
"""

from dataclasses import dataclass
from typing import Literal

Scheduling = Literal["fcfs", "priority", "sjf", "fair"]

HALF_TOKENS = 512
"""Tokens that half of the longest delay is due to."""
RANKS_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says for itself."""

    priority: int = 0
    """Lower goes first, as in vLLM; looked at only where the policy is "priority"."""
    owner: str = ""
    """The key or user whose share it uses."""
    expected_tokens: int = 0
    """Of prompt and answer."""


NO_CLAIM = Claim()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands."""

    rank: float
    """Lower goes first."""
    start_tag: float = 0.0
    """Tokens; see above."""

    @property
    def priority(self) -> int:
        """The rank in microseconds, as the engine's scheduler takes it: a whole number of 64 bits."""
        return round(self.rank * RANKS_PER_S)


class Scheduler:
    """Gives requests their places, and keeps what owners have had.

    Args:
        policy: see above.
        limit_s: a request is overtaken by none that comes so much later.
    """

    def __init__(self, policy: Scheduling, limit_s: float) -> None:
        self._policy = policy
        self._limit_s = limit_s
        self._virtual_time = 0.0
        self._ends: dict[str, tuple[float, float]] = {}
        """Owner → end of its last request in virtual time, and when that arrived; by the latter."""
        self._present = 0

    def arrive(self, claim: Claim, now: float) -> Place:
        """Give a request its place; `leave` is due when it is over. `now` never goes back."""
        self._present += 1
        start = self._charge(claim, now)
        match self._policy:
            case "fcfs":  # 1
                share = 0.0
            case "priority":  # 2
                share = (1 + claim.priority / (1 + abs(claim.priority))) / 2
            case "sjf":  # 3
                share = _share(claim.expected_tokens)
            case "fair":  # 4
                share = _share(start - self._virtual_time)
        return Place(now + share * self._limit_s, start)

    def leave(self, place: Place, claim: Claim, served: bool) -> None:
        """A request is over, or waits no longer; `served` if it came to its turn."""
        self._present -= 1
        if not self._present:  # nobody is there to be unfair to
            self._virtual_time = 0.0
            self._ends.clear()
        elif served:
            self._virtual_time = max(self._virtual_time, place.start_tag)
        elif claim.owner in self._ends:
            end, arrived = self._ends[claim.owner]
            self._ends[claim.owner] = end - claim.expected_tokens, arrived

    def _charge(self, claim: Claim, now: float) -> float:
        """Add a request to what its owner has had; returns its start tag."""
        self._forget(now - self._limit_s)
        end, _ = self._ends.pop(claim.owner, (0.0, 0.0))
        start = max(end, self._virtual_time)
        self._ends[claim.owner] = start + claim.expected_tokens, now
        return start

    def _forget(self, before: float) -> None:
        """Forget owners that have asked for nothing since: there may be many in time."""
        while self._ends:
            owner, (_, arrived) = next(iter(self._ends.items()))
            if arrived > before:
                return
            del self._ends[owner]


def _share(tokens: float) -> float:
    """From 0 to below 1, growing with the tokens."""
    return tokens / (tokens + HALF_TOKENS)
