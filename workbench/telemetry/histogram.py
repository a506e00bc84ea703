"""A histogram of durations whose memory does not grow with their number."""

import math
from collections.abc import Sequence

WIDTH = 0.01
"""A bucket's upper end is 1% above its lower one, so what is read is at most 0.5% beside what was added."""
SHORTEST_S = 1e-6
"""What is shorter counts as nothing."""

_SCALE = 1 / math.log1p(WIDTH)
_NOTHING = math.floor(math.log(SHORTEST_S) * _SCALE) - 1


class Histogram:
    """Counts of seconds in buckets of equal ratio, as in HdrHistogram; can be added and taken off again."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count a value."""
        bucket = math.floor(math.log(seconds) * _SCALE) if seconds >= SHORTEST_S else _NOTHING
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: "Histogram") -> None:
        """Count all that another has counted."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count

    def remove(self, other: "Histogram") -> None:
        """Forget all that another, which was merged or counted here too, has counted."""
        for bucket, count in other._buckets.items():
            left = self._buckets[bucket] - count
            if left:
                self._buckets[bucket] = left
            else:
                del self._buckets[bucket]
        self.count -= other.count

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """Percentiles by nearest rank: the smallest value that at least this share of all does not exceed.

        Args:
            shares: in ascending order, above 0 and up to 1; 1 is the longest of all.
        """
        found: list[float] = []
        ranks = [max(1, math.ceil(share * self.count)) for share in shares]
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            while len(found) < len(ranks) and ranks[len(found)] <= seen:
                found.append(_middle(bucket))
        return found


def _middle(bucket: int) -> float:
    return 0.0 if bucket == _NOTHING else math.exp((bucket + 0.5) / _SCALE)
