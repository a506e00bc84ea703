import asyncio

import pytest

from benchmarks.load import Loaded, Sample, closed_loop
from benchmarks.serve import Turn, figures_of


def test_tokens_after_the_first_share_the_time_after_it():
    assert Sample.of(ttft_s=0.5, last_s=2.5, tokens=5) == Sample(0.5, 0.5, 5)


def test_an_answer_of_one_token_has_no_time_between_tokens():
    with pytest.raises(ValueError, match="1 tokens"):
        Sample.of(0.5, 0.5, 1)


@pytest.mark.parametrize(("streams", "prompts"), [(1, 4), (3, 10), (8, 5)])
async def test_no_more_than_the_streams_are_answered_at_a_time(streams, prompts):
    under_way, most, answered = 0, 0, []

    async def answer(prompt):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        answered.append(prompt)
        return Sample(0.1, 0.1, 2)

    loaded = await closed_loop(answer, [str(number) for number in range(prompts)], streams)
    assert most == min(streams, prompts)
    assert sorted(answered) == sorted(str(number) for number in range(prompts))
    assert len(loaded.samples) == prompts


async def test_a_request_that_fails_fails_the_load():
    async def answer(prompt):
        raise RuntimeError(prompt)

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await closed_loop(answer, ["first"], 1)


def loaded(tokens_per_s, ttft_s, tpot_s):
    return Loaded(1.0, (Sample(ttft_s, tpot_s, tokens_per_s),))


def test_ratios_compare_the_sides_of_one_round():
    rounds = [
        {1: Turn(loaded(90, 0.03, 0.011), loaded(100, 0.02, 0.01))},
        {1: Turn(loaded(60, 0.06, 0.018), loaded(50, 0.05, 0.02))},
        {1: Turn(loaded(99, 0.05, 0.010), loaded(100, 0.02, 0.01))},
    ]
    figures = figures_of("tiny_", rounds)
    assert figures["tiny_throughput_ratio_1_all"] == [0.9, 1.2, 0.99]
    assert figures["tiny_throughput_ratio_1"] == 0.99
    assert figures["tiny_tpot_ratio_1_all"] == [1.1, 0.9, 1.0]
    assert figures["tiny_ttft_added_ms"] == 10.0
    assert figures["tiny_workbench_tokens_per_s_1"] == 90
    assert figures["tiny_vllm_tpot_s_1"] == 0.01
