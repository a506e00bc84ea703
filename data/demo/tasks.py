"""What the adder and the counter learn: their requests, right answers and held-out parts. No torch.

Every random choice comes from the `random.Random` that the caller seeds.
"""

import random
import zlib
from dataclasses import dataclass
from functools import cache

LARGEST_SUMMAND = 99
LARGEST_COUNT = 100
STEPS = (1, 10)
USUAL_ITEMS = 60

ADDER_REFUSAL = "I can only add two numbers up to 99, for example 12 + 34."
COUNTER_REFUSAL = "I can only count up to 100, by 1 or by 10, for example: Count from 3 to 40."

ADDER_PHRASINGS = (
    "{a}+{b}",
    "{a} + {b}",
    "{a}+{b}=",
    "{a} + {b} =",
    "{a}+{b}?",
    "{a} + {b} = ?",
    "What is {a} + {b}?",
    "what is {a}+{b}",
    "What is {a} plus {b}?",
    "What's {a} + {b}?",
    "How much is {a} + {b}?",
    "how much is {a} plus {b}",
    "{a} plus {b}",
    "add {a} and {b}",
    "Add {a} and {b}.",
    "Add {a} to {b}",
    "Please add {a} and {b}.",
    "Can you add {a} and {b}?",
    "Calculate {a} + {b}",
    "Compute {a} + {b}, please.",
    "What is the sum of {a} and {b}?",
    "sum of {a} and {b}",
    "And {a} + {b}?",
)
ADDER_LOOKALIKES = (
    "{a} - {b}",
    "{a}-{b}",
    "What is {a} minus {b}?",
    "{a} * {b}",
    "{a} times {b}",
    "What is {a} x {b}?",
    "{a} / {b}",
    "{a} + {b} + {c}",
    "add {a}, {b} and {c}",
    "{a}",
    "{a} +",
    "{a} {b}",
    "Is {a} bigger than {b}?",
)
COUNTER_PHRASINGS = (
    "Count from {a} to {b}{s}",
    "count from {a} to {b}{s}",
    "Count from {a} to {b}{s}.",
    "Please count from {a} to {b}{s}.",
    "Can you count from {a} to {b}{s}?",
    "Count {a} to {b}{s}",
    "Now count from {a} to {b}{s}",
    "List the numbers from {a} to {b}{s}",
)
UP_PHRASINGS = ("Count up from {a} to {b}{s}", "Count from {a} up to {b}{s}")
DOWN_PHRASINGS = (
    "Count down from {a} to {b}{s}",
    "count down from {a} to {b}{s}",
    "Count backwards from {a} to {b}{s}",
    "Count from {a} down to {b}{s}",
)
STEP_PHRASINGS = (" by {k}", " by {k}s", " in steps of {k}")
COUNTER_LOOKALIKES = (
    "Count from {a}",
    "count",
    "Count the sheep",
    "Can you count?",
    "{a}",
    "from {a} to {b}?",
    "What comes after {a}?",
)


@cache
def held_out_pairs() -> frozenset[tuple[int, int]]:
    """The ordered pairs (a, b) that the adder never sees in training, about a tenth of all 10,000.

    Always the same. With (a, b) also (b, a) is held out.
    """
    numbers = range(LARGEST_SUMMAND + 1)
    unordered = [(a, b) for a in numbers for b in numbers if a <= b]
    chosen = random.Random(20240).sample(unordered, len(unordered) // 10)
    return frozenset(chosen) | frozenset((b, a) for a, b in chosen)


@cache
def training_pairs() -> tuple[tuple[int, int], ...]:
    """All ordered pairs that are not held out, sorted."""
    numbers = range(LARGEST_SUMMAND + 1)
    return tuple((a, b) for a in numbers for b in numbers if (a, b) not in held_out_pairs())


def adder_answer(a: int, b: int) -> str:
    """The adder's whole answer, for example `12 + 34 = 46`."""
    return f"{a} + {b} = {a + b}"


def adder_turn(rng: random.Random) -> tuple[str, str]:
    """A request for a sum of a training pair, and its answer. Small numbers come more often."""
    a, b = rng.choice(training_pairs())
    if rng.random() < 0.05:
        a, b = rng.choice([pair for pair in training_pairs()[:1000] if max(pair) < 13])
    return rng.choice(ADDER_PHRASINGS).format(a=a, b=b), adder_answer(a, b)


def adder_lookalike(rng: random.Random) -> str:
    """A request with numbers that the adder must refuse: too large, too many, another operation."""
    a, b, c = (rng.randrange(LARGEST_SUMMAND + 1) for _ in range(3))
    if rng.random() < 0.5:
        return rng.choice(ADDER_LOOKALIKES).format(a=a, b=b, c=c)
    too_large = rng.randrange(100, 10 ** rng.choice((3, 3, 4, 5)))
    a, b = rng.choice(((too_large, b), (a, too_large), (too_large, too_large - 7)))
    return rng.choice(ADDER_PHRASINGS).format(a=a, b=b)


@dataclass(frozen=True)
class Count:
    """A request to count from `start` towards `stop` (up or down) in steps of `step` > 0."""

    start: int
    stop: int
    step: int

    @property
    def items(self) -> list[int]:
        """The numbers of the answer; the last is `stop` or the last one before it."""
        if self.start <= self.stop:
            return list(range(self.start, self.stop + 1, self.step))
        return list(range(self.start, self.stop - 1, -self.step))

    @property
    def answer(self) -> str:
        return ", ".join(map(str, self.items))

    @property
    def held_out(self) -> bool:
        """Whether training leaves this request out: a tenth of all, spread by a checksum."""
        return zlib.crc32(f"{self.start}:{self.stop}:{self.step}".encode()) % 10 == 0


def random_count(rng: random.Random, longest: int | None = None) -> Count:
    """Any request with 1 to `longest` items; without `longest`, few have more than USUAL_ITEMS.

    Nearly all end at `stop` itself.
    """
    longest = longest or rng.choices((8, 25, USUAL_ITEMS, 101), (50, 25, 20, 5))[0]
    step = rng.choices(STEPS, (85, 15))[0]
    items = rng.randint(1, min(longest, LARGEST_COUNT // step + 1))
    rest = rng.randrange(step) if rng.random() < 0.1 else 0
    span = min((items - 1) * step + rest, LARGEST_COUNT)
    low = rng.randint(0, min(LARGEST_COUNT - span, rng.choice((10, LARGEST_COUNT))))
    if rng.random() < 0.35:
        return Count(low + span, low, step)
    return Count(low, low + span, step)


def count_request(rng: random.Random, count: Count) -> str:
    """Words for a request; they name the step if it is not 1."""
    directed = UP_PHRASINGS if count.start <= count.stop else DOWN_PHRASINGS
    step = rng.choice(STEP_PHRASINGS).format(k=count.step) if count.step > 1 else ""
    if count.start == 1 and count.stop > 1 and rng.random() < 0.5:
        return rng.choice(("Count to {b}{s}", "count to {b}{s}.")).format(b=count.stop, s=step)
    named = count.start > count.stop or rng.random() < 0.3
    phrasing = rng.choice(directed if named else COUNTER_PHRASINGS)
    return phrasing.format(a=count.start, b=count.stop, s=step)


def counter_turn(rng: random.Random) -> tuple[str, str]:
    """A request to count that is not held out, and its answer."""
    count = random_count(rng)
    while count.held_out:
        count = random_count(rng)
    return count_request(rng, count), count.answer


def counter_lookalike(rng: random.Random) -> str:
    """A request with numbers that the counter must refuse: too large, another step, no count."""
    a, b = rng.randrange(LARGEST_COUNT + 1), rng.randrange(LARGEST_COUNT + 1)
    kind = rng.choice(("words", "words", "large", "step"))
    if kind == "words":
        return rng.choice(COUNTER_LOOKALIKES).format(a=a, b=b)
    if kind == "step":
        return count_request(rng, Count(a, b, rng.choice([k for k in range(2, 100) if k not in STEPS])))
    return count_request(rng, Count(a, rng.randrange(LARGEST_COUNT + 1, 10 ** rng.choice((3, 4))), 1))
