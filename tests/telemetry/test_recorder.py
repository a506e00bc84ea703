"""What goes on now, and what the windows make of it."""

import pytest

from workbench.telemetry.recorder import ALL_MODELS, Now, Recorder, Windows
from workbench.telemetry.windows import Counts


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_request_waits_is_prefilled_decoded_and_gone(clock):
    recorder = Recorder(clock)
    request, other = recorder.request("adder"), recorder.request("counter")
    assert recorder.now("adder") == Now(waiting=1)
    assert recorder.now(ALL_MODELS) == Now(waiting=2)
    request.leased()
    assert recorder.now(ALL_MODELS) == Now(waiting=1, prefilling=1)
    request.grown(1)
    request.grown(2)
    assert recorder.now(ALL_MODELS) == Now(waiting=1, decoding=1, batch=1)
    assert recorder.now(ALL_MODELS).in_flight == 2
    request.end()
    other.end()
    assert recorder.now(ALL_MODELS) == Now()


def test_a_request_that_breaks_off_leaves_nothing_behind(clock):
    recorder = Recorder(clock)
    request = recorder.request("adder")
    request.leased()
    request.end()
    request.end()
    assert recorder.now("adder") == Now()


def test_tokens_are_entered_by_the_second(clock):
    recorder = Recorder(clock)
    adder, counter = recorder.request("adder"), recorder.request("counter")
    for second in range(5):
        adder.grown(10 * (second + 1))
        counter.grown(second + 1)
        clock.now += 1
    assert recorder.now("adder").tokens_per_s == 10
    assert recorder.now(ALL_MODELS).tokens_per_s == 11
    assert recorder.picture("adder", "5m").counts.tokens == 50
    assert recorder.picture(ALL_MODELS, "24h").counts.tokens == 55
    clock.now += 20
    assert recorder.now(ALL_MODELS).tokens_per_s == 0


def test_the_batch_is_the_largest_of_one_model_and_the_queue_that_of_all(clock):
    recorder = Recorder(clock)
    requests = [recorder.request(model) for model in ("adder", "adder", "counter")]
    for request in requests:
        request.grown(1)
    recorder.request("counter")
    assert recorder.now(ALL_MODELS).batch == 2
    assert recorder.now("counter").batch == 1
    clock.now += 60
    for request in requests:
        request.end()
    clock.now += 60
    steps = recorder.picture(ALL_MODELS, "5m").steps
    assert [step.batch for step in steps[-25:]] == [2] * 13 + [0] * 12
    assert [step.waiting for step in steps[-25:]] == [3] + [1] * 24
    assert recorder.picture("counter", "5m").counts.batch == 1


def test_ends_are_counted_and_only_those_with_times_are_measured(clock):
    recorder = Recorder(clock)
    recorder.add_end("adder", "ok", {"ttft": 0.1, "total": 1.0})
    recorder.add_end("adder", "failed", {})
    recorder.add_end("counter", "cancelled", {})
    recorder.add_switch("counter", 0.5)
    for span in ("5m", "1h", "24h"):
        whole = recorder.picture(ALL_MODELS, span)
        assert whole.counts == Counts(ok=1, failed=1, cancelled=1)
        assert whole.spreads["ttft"].count == whole.spreads["switch"].count == 1
        assert recorder.picture("adder", span).spreads["switch"].count == 0
    assert recorder.picture("unknown", "5m").counts == Counts()


def test_the_past_is_in_the_windows_that_it_is_in(clock):
    recorder, past = Recorder(clock), Windows()
    recorder.add_end("adder", "ok", {"ttft": 0.1})
    for age_s in (20, 600, 7200, 10**6):
        past.add_past(clock.now, clock.now - age_s, "adder", Counts(ok=1, tokens=3), {"ttft": 0.2})
    past.add_up()
    recorder.add_past(past)
    for model in ("adder", ALL_MODELS):
        counts = [recorder.picture(model, span).counts for span in ("5m", "1h", "24h")]
        assert counts == [Counts(ok=2, tokens=3), Counts(ok=3, tokens=6), Counts(ok=4, tokens=9)]
        assert recorder.picture(model, "24h").spreads["ttft"].count == 4
