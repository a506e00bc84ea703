"""What is to be expected of switches and answers, from those there were. Pure; seconds, bytes and tokens."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import fmean, median

KEPT = 5
"""Switches of a model that its estimate is the median of."""
FARTHEST = 4.0
"""An estimate for weights more than this many times larger than any measured would be a guess."""
LONG_WAIT_S = 1.0
"""A wait for a worker, or for room, that says nothing about the next switch."""


KEPT_ANSWERS = 50
UNKNOWN_ANSWER = 256
"""Tokens that the answer of a model is expected to have that has given none yet."""
CHARACTERS_PER_TOKEN = 4


class AnswerLengths:
    """How long a model's next answer is expected to be: as the mean of its last ones."""

    def __init__(self) -> None:
        self._last: dict[str, deque[int]] = {}

    def add(self, model: str, tokens: int) -> None:
        """Take a complete answer."""
        self._last.setdefault(model, deque(maxlen=KEPT_ANSWERS)).append(tokens)

    def expected_tokens(self, model: str, prompt_characters: int, max_tokens: int | None) -> int:
        """Tokens of prompt and answer; an answer has `max_tokens` at most."""
        last = self._last.get(model)
        answer = round(fmean(last)) if last else UNKNOWN_ANSWER
        if max_tokens is not None:
            answer = min(answer, max_tokens)
        return prompt_characters // CHARACTERS_PER_TOKEN + answer


class SwitchEstimates:
    """Medians of what switches took, by model and by whether a sleeping worker woke it.

    1. A model is expected to take the median of its own last switches of that kind.
    2. A model without any is compared with the others by the bytes of its weights: between two sizes
       measured the time is interpolated, below the smallest it is that one's, and above the largest it
       grows with the bytes, up to `FARTHEST` times as many. For a load the others' first loads count,
       since no weights are prepared for this model, either.
    3. Else nothing is known.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, bool], deque[float]] = {}
        self._own: dict[tuple[str, bool], float] = {}
        """Case 1, by model and whether it was woken."""
        self._first: dict[str, float] = {}
        """What each model's first load took."""

    def add_first(self, model: str, total_s: float, wait_s: float) -> None:
        """Take a model's first load, which may be among those that are added too."""
        self._first.setdefault(model, _expected(total_s, wait_s))

    def add(self, model: str, woken: bool, total_s: float, wait_s: float) -> None:
        """Take a switch that succeeded; a model's come in the order of time.

        Args:
            model: its name.
            woken: whether a worker held it asleep; else it was loaded.
            total_s: all it took, from the first request for it.
            wait_s: what of that it waited for room and for a worker.
        """
        last = self._last.setdefault((model, woken), deque(maxlen=KEPT))
        last.append(_expected(total_s, wait_s))
        self._own[model, woken] = median(last)
        if not woken:
            self.add_first(model, total_s, wait_s)

    def own(self, model: str, woken: bool) -> float | None:
        """The median of a model's own last wakes, or loads."""
        return self._own.get((model, woken))

    def seconds(self, model: str, asleep: bool, weight_bytes: Mapping[str, int]) -> float | None:
        """What a switch to a model would take now.

        Args:
            model: its name.
            asleep: whether a worker holds it asleep; else it would be loaded.
            weight_bytes: of every model that is known.
        """
        own = self.own(model, asleep)
        if own is not None:  # 1
            return own
        measured = {name: s for (name, woken), s in self._own.items() if woken} if asleep else self._first
        points = ((weight_bytes[name], s) for name, s in measured.items() if weight_bytes.get(name))
        return _at(points, weight_bytes.get(model, 0))  # 2, 3


def _expected(total_s: float, wait_s: float) -> float:
    """What the switch would have taken without a wait that is not a switch's own."""
    return total_s - wait_s if wait_s >= LONG_WAIT_S else total_s


def _at(points: Iterable[tuple[int, float]], size: int) -> float | None:
    """The time at `size` on the line through `points`, each bytes and seconds."""
    by_size: dict[int, list[float]] = {}
    for known, seconds in points:
        by_size.setdefault(known, []).append(seconds)
    if not by_size or not size:
        return None
    sizes = sorted(by_size)
    times = [median(by_size[known]) for known in sizes]
    place = bisect_left(sizes, size)
    if place == 0:
        return times[0]
    if place == len(sizes):
        growth = size / sizes[-1]
        return times[-1] * growth if growth <= FARTHEST else None
    share = (size - sizes[place - 1]) / (sizes[place] - sizes[place - 1])
    return times[place - 1] + share * (times[place] - times[place - 1])
