"""Steps as they are remembered: who joined and left, what was prefill and what decode."""

import time
from types import SimpleNamespace

from workbench.engine.kv_cache import Span
from workbench.engine.steps import MAX_SPANS, WINDOW_S, StepRecorder


def new(name: str, prompt: int, computed: int = 0, known: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        req_id=name,
        prompt_len=prompt,
        num_computed_tokens=computed,
        prefill_token_ids=[0] * known if known else None,
    )


def step(scheduled, joined=(), finished=(), preempted=(), resumed=None) -> SimpleNamespace:
    """A SchedulerOutput; `resumed` gives computed and output tokens of requests that come again."""
    resumed = resumed or {}
    return SimpleNamespace(
        scheduled_new_reqs=list(joined),
        scheduled_cached_reqs=SimpleNamespace(
            req_ids=list(resumed),
            resumed_req_ids=set(resumed),
            num_computed_tokens=[computed for computed, _ in resumed.values()],
            num_output_tokens=[output for _, output in resumed.values()],
        ),
        num_scheduled_tokens=scheduled,
        total_num_scheduled_tokens=sum(scheduled.values()),
        finished_req_ids=set(finished),
        preempted_req_ids=set(preempted),
    )


def test_prefill_and_decode_are_told_apart_in_one_batch():
    recorder = StepRecorder()
    recorder.record(step({"a": 100}, [new("a", 150)]), 1.0, 1.1)
    recorder.record(step({"a": 50, "b": 20}, [new("b", 52, computed=32)]), 1.1, 1.2)
    recorder.record(step({"a": 1, "b": 1}), 1.2, 1.21)
    (bin,) = recorder.bins(1.3)
    assert (bin.steps, bin.prefill_steps, bin.decode_steps, bin.batch) == (3, 2, 1, 2)
    assert (bin.prefill_tokens, bin.decode_tokens) == (170, 2)
    assert recorder.spans(1.3) == (
        Span(1, 0, 1.0, 1.2, 0.0, False),
        Span(2, 0, 1.1, 1.2, 0.0, False),
    )
    assert recorder.stays["b"].reused_tokens == 32


def test_a_chunk_of_one_prompt_beside_a_decode_is_both():
    recorder = StepRecorder()
    recorder.record(step({"a": 8}, [new("a", 8)]), 1.0, 1.1)
    recorder.record(step({"a": 1, "b": 30}, [new("b", 60)]), 1.1, 1.2)
    bin = recorder.bins(1.3)[-1]
    assert (bin.steps, bin.prefill_steps, bin.decode_steps) == (2, 2, 1)
    assert (bin.prefill_tokens, bin.decode_tokens) == (38, 1)


def test_who_is_done_leaves_with_the_step_after():
    recorder = StepRecorder()
    recorder.record(step({"a": 8}, [new("a", 8)]), 1.0, 1.1)
    recorder.record(step({}, finished=["a"]), 1.2, 1.2)
    assert recorder.spans(1.3) == (Span(1, 0, 1.0, 1.1, 1.2, False),)
    assert recorder.stays == {}
    assert len(recorder.bins(1.3)) == 1, "a step without tokens is none"


def test_a_preempted_request_comes_again_under_its_number():
    recorder = StepRecorder()
    recorder.record(step({"a": 8}, [new("a", 8)]), 1.0, 1.1)
    recorder.record(step({"a": 1}), 1.1, 1.2)
    recorder.record(step({"b": 4}, [new("b", 4)], preempted=["a"]), 1.2, 1.3)
    assert recorder.preemptions == 1
    recorder.record(step({"a": 10}, resumed={"a": (0, 2)}), 1.3, 1.4)
    again = [span for span in recorder.spans(1.5) if span.number == 1]
    assert again == [Span(1, 0, 1.0, 1.1, 1.2, True), Span(1, 0, 1.3, 1.4, 0.0, False)]


def test_a_resumed_request_that_vllm_calls_new_keeps_its_number():
    recorder = StepRecorder()
    recorder.record(step({"a": 8}, [new("a", 8)]), 1.0, 1.1)
    recorder.record(step({"b": 1}, [new("b", 1)], preempted=["a"]), 1.1, 1.2)
    recorder.record(step({"a": 5}, [new("a", 8, known=10)]), 1.2, 1.3)
    recorder.record(step({"a": 5}), 1.3, 1.4)
    assert recorder.spans(1.5)[-1] == Span(1, 0, 1.2, 1.4, 0.0, False)


def test_samples_of_one_request_share_its_number():
    recorder = StepRecorder()
    names = ["0_x-1", "1_x-1", "plain", "2_x-1"]
    recorder.record(step(dict.fromkeys(names, 4), [new(name, 4) for name in names]), 1.0, 1.1)
    assert [(stay.number, stay.sample) for stay in recorder.stays.values()] == [
        (1, 1),
        (1, 2),
        (2, 0),
        (1, 3),
    ]
    recorder.record(step({}, finished=names), 1.2, 1.2)
    recorder.record(step({"3_x-1": 4}, [new("3_x-1", 4)]), 1.3, 1.4)
    assert recorder.stays["3_x-1"].number == 3, "nothing is kept of families that are done"


def test_memory_is_bounded_and_forgets_after_a_minute():
    recorder = StepRecorder()
    for number in range(3 * MAX_SPANS):
        name = str(number)
        recorder.record(step({name: 1}, [new(name, 1)]), number / 10, number / 10)
        recorder.record(step({}, finished=[name]), number / 10, number / 10)
    now = 3 * MAX_SPANS / 10
    assert len(recorder.spans(now)) <= min(MAX_SPANS, WINDOW_S * 10)
    assert min(bin.began for bin in recorder.bins(now)) > now - WINDOW_S
    assert recorder.bins(now + 2 * WINDOW_S) == recorder.spans(now + 2 * WINDOW_S) == ()
    assert recorder.stays == recorder._families == {}


def test_a_decode_step_costs_microseconds_whatever_the_batch():
    recorder = StepRecorder()
    names = [str(number) for number in range(256)]
    recorder.record(step(dict.fromkeys(names, 4), [new(name, 4) for name in names]), 0.0, 0.1)
    decode = step(dict.fromkeys(names, 1))
    began = time.process_time()
    for _ in range(10_000):
        recorder.record(decode, 1.0, 1.0)
    assert (time.process_time() - began) / 10_000 < 20e-6
