"""Counts what requests do while they do it, for all models and for each. Belongs to the event loop.

What it keeps is bounded by the number of models. A token costs it a third of a microsecond: tokens are
added up and entered once a second.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workbench.telemetry.windows import NO_TIMES, NOTHING, SPANS, Counts, Outcome, Picture, Time, Window

ALL_MODELS = ""
RATE_S = 5
"""Seconds that the present rate of tokens is the mean of."""


@dataclass(frozen=True, slots=True)
class Now:
    """What goes on at this moment."""

    waiting: int = 0
    """Requests that wait for their model: the queue."""
    prefilling: int = 0
    """Requests that have their model, and no token yet."""
    decoding: int = 0
    """Requests that have had their first token."""
    batch: int = 0
    """The most of the latter for one model: they are decoded together."""
    tokens_per_s: float = 0.0

    @property
    def in_flight(self) -> int:
        return self.waiting + self.prefilling + self.decoding


class Windows:
    """Windows of every span, for all models together and for each."""

    def __init__(self) -> None:
        self._windows: dict[str, dict[str, Window]] = {}

    def add(
        self, at: float, model: str, counts: Counts = NOTHING, times: Mapping[Time, float] = NO_TIMES
    ) -> None:
        """Take what has happened with a model, and how long it took."""
        for name in (ALL_MODELS, model):
            for window in self._of(name).values():
                window.add(at, counts, times)

    def hold(self, since: float, until: float, model: str, waiting: int, batch: int) -> None:
        """Take how many requests have waited for a model, or for all, and were decoded, for some time."""
        for window in self._of(model).values():
            window.hold(since, until, waiting, batch)

    def add_past(
        self, now: float, at: float, model: str, counts: Counts, times: Mapping[Time, float]
    ) -> None:
        """Take what happened with a model long ago; `add_up` is due after the last."""
        for span in SPANS:
            if now - at < span.slot_s * span.slots:
                self._of(model)[span.name].add(at, counts, times)

    def add_up(self) -> None:
        """Make those for all models from those for each."""
        for windows in list(self._windows.values()):
            for span, window in windows.items():
                self._of(ALL_MODELS)[span].merge(window)

    def merge(self, other: "Windows") -> None:
        """Take all that others have."""
        for model, windows in other._windows.items():
            for span, window in windows.items():
                self._of(model)[span].merge(window)

    def picture(self, now: float, model: str, span: str) -> Picture:
        """One window as it is now."""
        windows = self._windows.get(model) or _empty()
        return windows[span].picture(now)

    def _of(self, model: str) -> dict[str, Window]:
        windows = self._windows.get(model)
        if windows is None:
            windows = self._windows[model] = _empty()
        return windows


def _empty() -> dict[str, Window]:
    return {span.name: Window(span) for span in SPANS}


class Recorder:
    """The app's windows, and what goes on now.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._windows = Windows()
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._prefilling: Counter[str] = Counter()
        self._decoding: Counter[str] = Counter()
        self._tokens: dict[str, int] = {}
        """Tokens that are not entered yet."""
        self._second = int(clock())
        """The second that these came in."""
        self._held_at = clock()
        self._past_seconds: deque[tuple[int, dict[str, int]]] = deque(maxlen=RATE_S)

    def request(self, model: str) -> "LiveRequest":
        """A request asks for a model; it must be ended."""
        return LiveRequest(self, model)

    def add_tokens(self, model: str, count: int) -> None:
        """An answer has grown."""
        if int(self._clock()) != self._second:
            self._enter()
        self._tokens[model] = self._tokens.get(model, 0) + count

    def add_end(self, model: str, outcome: Outcome, times: Mapping[Time, float]) -> None:
        """A request has ended; `times` are empty unless it was answered in full."""
        self._windows.add(self._clock(), model, Counts(**{outcome: 1}), times)

    def add_switch(self, model: str, seconds: float) -> None:
        """A model has been loaded or woken."""
        self._windows.add(self._clock(), model, times={"switch": seconds})

    def add_past(self, past: Windows) -> None:
        """Take what happened before, added up."""
        past.merge(self._windows)  # in this direction: there is much more of the past
        self._windows = past

    def now(self, model: str) -> Now:
        """What goes on with a model, or with all."""
        self._enter()
        tokens = sum(
            sum(counts.values()) if model == ALL_MODELS else counts.get(model, 0)
            for second, counts in self._past_seconds
            if 0 < self._second - second <= RATE_S
        )
        waiting, prefilling, decoding = (
            stage.total() if model == ALL_MODELS else stage[model] for stage in self.stages
        )
        return Now(waiting, prefilling, decoding, self._batch(model), tokens / RATE_S)

    def picture(self, model: str, span: str) -> Picture:
        """A window of a model, or of all, as it is now."""
        self._enter()
        return self._windows.picture(self._clock(), model, span)

    def _batch(self, model: str) -> int:
        if model == ALL_MODELS:
            return max(self._decoding.values(), default=0)
        return self._decoding[model]

    def _enter(self) -> None:
        """Enter what is known of the time since this was last done."""
        now = self._clock()
        self._hold(now)
        if int(now) == self._second:
            return
        then, self._second = self._second, int(now)
        if self._tokens:
            self._past_seconds.append((then, self._tokens))
            for model, count in self._tokens.items():
                self._windows.add(then, model, Counts(tokens=count))
            self._tokens = {}

    def _hold(self, now: float) -> None:
        """Enter how many requests have waited and were decoded since this was last done."""
        since, self._held_at = self._held_at, now
        busy = self._waiting.keys() | self._decoding.keys()
        for model in busy:
            self._windows.hold(since, now, model, self._waiting[model], self._decoding[model])
        if busy:
            self._windows.hold(since, now, ALL_MODELS, self._waiting.total(), self._batch(ALL_MODELS))

    # For LiveRequest.

    def move(self, model: str, before: "Counter[str] | None", after: "Counter[str] | None") -> None:
        """A request goes from one of `stages` to another."""
        self._hold(self._clock())
        if before is not None:
            before[model] -= 1
            if not before[model]:
                del before[model]
        if after is not None:
            after[model] += 1
            self._hold(self._clock())

    @property
    def stages(self) -> "tuple[Counter[str], Counter[str], Counter[str]]":
        """Counters by model: waiting, prefilling, decoding."""
        return self._waiting, self._prefilling, self._decoding


class LiveRequest:
    """A request on its way: it waits for its model, is prefilled, and decoded."""

    def __init__(self, recorder: Recorder, model: str) -> None:
        self._recorder = recorder
        self._model = model
        self._waiting, self._prefilling, self._decoding = recorder.stages
        self._stage: Counter[str] | None = None
        self._tokens = 0
        self._move(self._waiting)

    def leased(self) -> None:
        """It has its model."""
        self._move(self._prefilling)

    def grown(self, token_count: int) -> None:
        """Its answer has `token_count` tokens by now."""
        if self._stage is not self._decoding:
            self._move(self._decoding)
        self._recorder.add_tokens(self._model, token_count - self._tokens)
        self._tokens = token_count

    def end(self) -> None:
        """It is over."""
        self._move(None)

    def _move(self, stage: "Counter[str] | None") -> None:
        self._recorder.move(self._model, self._stage, stage)
        self._stage = stage
