"""Which models' files to bring into the page cache, before anybody asks for them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

HALF_LIFE_S = 1800.0
"""A use counts half as much for each such time that has passed since."""


def likely_next(
    history: Sequence[tuple[str, float]], candidates: Mapping[str, int], budget_bytes: int
) -> list[str]:
    """Models to prefetch, the likeliest next first, together never above the budget.

    A candidate's likelihood is the mean of two shares: of all uses, and of those switches that left the
    model used last, so that a person who goes back and forth between two models finds the other one ready.
    Older uses count less. A model that was never used is not guessed at, and one that doesn't fit makes way
    for the next that does.

    Args:
        history: model and time, in monotonic seconds, of each use, oldest first.
        candidates: bytes of each model's file; without those that a device holds.
        budget_bytes: host memory that the files may take.
    """
    if not history:
        return []
    last, now = history[-1]
    uses: dict[str, float] = defaultdict(float)
    followers: dict[str, float] = defaultdict(float)
    for model, used_at in history:
        uses[model] += _weight(now - used_at)
    for (before, _), (model, used_at) in pairwise(history):
        if before == last != model:
            followers[model] += _weight(now - used_at)

    def likelihood(model: str) -> float:
        return _share(uses, model) + _share(followers, model)

    chosen = []
    for model in sorted(candidates, key=lambda model: (-likelihood(model), model)):
        if model in uses and candidates[model] <= budget_bytes:
            chosen.append(model)
            budget_bytes -= candidates[model]
    return chosen


def _weight(age_s: float) -> float:
    return float(0.5 ** (age_s / HALF_LIFE_S))


def _share(counts: Mapping[str, float], model: str) -> float:
    return counts[model] / sum(counts.values()) if model in counts else 0.0
