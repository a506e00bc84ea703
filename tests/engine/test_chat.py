"""Chat on the real engine: right answers, switches, figures, bad input."""

import asyncio

import pytest

from data.demo.tasks import held_out_pairs
from tests.engine.helpers import ask, until
from workbench.errors import BadRequestError, ConflictError, InsufficientMemoryError, NotFoundError
from workbench.values import Finished, Progress, SamplingOptions, Token

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


async def test_each_model_answers_with_its_own_skill(workbench):
    pairs = sorted(held_out_pairs())[::5]
    answers = await asyncio.gather(*(ask(workbench, "adder", f"{a} + {b}") for a, b in pairs))
    right = [answer.text.endswith(f"= {a + b}") for answer, (a, b) in zip(answers, pairs, strict=True)]
    assert sum(right) >= 0.99 * len(pairs)
    story = (await ask(workbench, "storyteller", "Tell me a story about a fox")).text
    assert "fox" in story
    assert story.endswith(".")
    count = (await ask(workbench, "counter", "Count from 3 to 12")).text
    assert count == "3, 4, 5, 6, 7, 8, 9, 10, 11, 12"


async def test_a_story_differs_with_temperature_and_repeats_with_a_seed(workbench):
    async def story(**options):
        options = SamplingOptions(**options, max_tokens=64)
        return (await ask(workbench, "storyteller", "Tell me a story", options=options)).text

    assert await story(temperature=0) == await story(temperature=0)
    assert await story(temperature=1, seed=1) == await story(temperature=1, seed=1)
    assert await story(temperature=1, seed=1) != await story(temperature=1, seed=2)


async def test_a_switch_is_told_timed_and_recorded(workbench):
    await ask(workbench, "adder", "1+1")
    events = [event async for event in workbench.chat("counter", "Count from 1 to 20")]
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert "evicting" in stages
    assert "loading" in stages
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.text == "".join(event.text for event in events if isinstance(event, Token))
    stats = finished.stats
    assert stats.switch_reason == "loaded from disk, evicting adder"
    assert 0 < stats.switch_s < stats.ttft_s < stats.duration_s
    assert stats.completion_tokens > 20
    assert stats.tokens_per_s > 0
    assert stats.finish_reason == "stop"
    await until(lambda: workbench.catalog.recent_swaps(1)[0].model == "counter")
    swap = workbench.catalog.recent_swaps(1)[0]
    assert swap.outcome == "ok"
    assert swap.evicted == ["adder"]
    phases = (swap.wait_s, swap.configure_s, swap.create_s, swap.weights_s, swap.kv_cache_s, swap.attach_s)
    assert all(phase >= 0 for phase in phases)
    assert sum(phases) == pytest.approx(swap.total_s, abs=0.1)
    request = workbench.catalog.recent_requests(1)[0]
    assert (request.model, request.finish_reason, request.error) == ("counter", "stop", "")
    assert request.completion_tokens == stats.completion_tokens
    assert request.queue_s + request.switch_s == pytest.approx(stats.switch_s)
    assert request.switch_s == pytest.approx(swap.total_s - swap.wait_s, abs=0.05)
    assert request.switch_reason == stats.switch_reason
    assert request.ttft_s + request.decode_s <= request.duration_s
    assert 0 < request.longest_gap_s <= request.decode_s
    assert request.accept_s > 0.0001, "the user's turn is stored in that time"
    assert 1 <= request.first_tokens < request.completion_tokens
    assert not swap.woken
    assert swap.worker_start_s > 1
    assert 0 < workbench.switch_estimates()["adder"] < 60


async def test_concurrent_requests_share_one_load(workbench):
    await ask(workbench, "adder", "1+1")
    swaps = len(workbench.catalog.recent_swaps(1000))
    answers = await asyncio.gather(*(ask(workbench, "counter", f"Count from 1 to {n}") for n in range(5, 15)))
    assert [answer.text.count(",") + 1 for answer in answers] == list(range(5, 15))
    await until(lambda: len(workbench.catalog.recent_swaps(1000)) > swaps)
    assert len(workbench.catalog.recent_swaps(1000)) == swaps + 1


async def test_a_conversation_is_kept_and_goes_on(workbench):
    first = await ask(workbench, "adder", "What is 20 + 22?")
    await ask(workbench, "adder", "3+4", conversation_id=first.conversation_id)
    turns = await workbench.conversations.messages(first.conversation_id)
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2
    assert turns[1].content == first.text
    assert turns[1].stats.completion_tokens == first.stats.completion_tokens
    listed = (await workbench.conversations.find())[0]
    assert (listed.id, listed.title) == (first.conversation_id, "What is 20 + 22?")


@pytest.mark.parametrize(
    ("model", "text", "options", "error", "says"),
    [
        ("nobody", "hello", {}, NotFoundError, "no model 'nobody'"),
        ("adder", " \n", {}, BadRequestError, "The message is empty"),
        ("adder", "1+1", {"temperature": -1}, BadRequestError, "temperature is -1, but must be at least 0"),
        ("adder", "1+1", {"top_p": 0}, BadRequestError, "top_p is 0"),
        ("adder", "1+1", {"max_tokens": 0}, BadRequestError, "max_tokens is 0"),
        ("qwen3-0.6b", "hello", {}, ConflictError, "not downloaded"),
    ],
)
async def test_a_bad_request_is_refused_in_a_sentence_and_stores_nothing(
    workbench, model, text, options, error, says
):
    before = await workbench.conversations.find()
    with pytest.raises(error, match=says):
        await ask(workbench, model, text, options=SamplingOptions(**options))
    assert await workbench.conversations.find() == before


async def test_an_over_long_prompt_says_how_long_and_how_much_fits(workbench):
    before = await workbench.conversations.find()
    conversation = (await ask(workbench, "adder", "1+1")).conversation_id
    for where in (None, conversation):
        with pytest.raises(BadRequestError, match=r"is \d{4,5} tokens long, but adder holds 1024"):
            await ask(workbench, "adder", "1 + " * 3000, conversation_id=where)
    assert len(await workbench.conversations.find()) == len(before) + 1
    assert len(await workbench.conversations.messages(conversation)) == 2
    await ask(workbench, "adder", "2+2", conversation_id=conversation)  # and one can go on
    assert len(await workbench.conversations.messages(conversation)) == 4


async def test_a_model_larger_than_the_budget_is_refused_with_the_numbers(workbench):
    workbench.catalog.update_model("counter", kv_cache_bytes=1 << 30)
    await workbench.unload("counter") if workbench.model("counter").residency == "device" else None
    await until(lambda: workbench.model("counter").residency == "disk")
    await workbench._library._refresh()
    try:
        with pytest.raises(InsufficientMemoryError, match=r"needs 1\.00 GiB .* budget is 0\.10 GiB"):
            await ask(workbench, "counter", "Count from 1 to 5")
    finally:
        workbench.catalog.update_model("counter", kv_cache_bytes=64 << 20)
        await workbench._library._refresh()


async def test_a_stopped_answer_is_kept_and_leaves_nothing_in_flight(workbench):
    stream = workbench.chat("counter", "Count from 0 to 60")
    async for event in stream:
        if isinstance(event, Token):
            break
    assert worker_in_flight(workbench, "counter") == 1
    await stream.aclose()
    await until(lambda: worker_in_flight(workbench, "counter") == 0)
    conversation = (await workbench.conversations.find())[0]
    turn = (await workbench.conversations.messages(conversation.id))[1]
    assert turn.content.startswith("0")
    assert turn.stats.finish_reason == "abort"


def worker_in_flight(workbench, model):
    return workbench.model(model).in_flight


async def test_a_story_is_another_one_after_each_load(workbench):
    stories = []
    for _ in range(2):
        stories.append(
            (await ask(workbench, "storyteller", "Tell me a story", options=SamplingOptions())).text
        )
        await workbench.unload("storyteller")
    assert stories[0] != stories[1]
