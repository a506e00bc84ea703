"""The steps of a chat, without a browser: paced events, parameters, refusals, failures, stops, versions."""

import asyncio
import re
from contextlib import aclosing

import pytest

from tests.ui.fake_workbench import FakeWorkbench
from workbench.errors import BadRequestError
from workbench.ui.answer import PacedEvents
from workbench.ui.chat_flow import Ask, ChatFlow
from workbench.ui.parameters import PARAMETERS, sampling_options
from workbench.values import SamplingOptions, Token

NO_PARAMETERS = [None] * len(PARAMETERS)


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(step_s=0)


@pytest.fixture
def flow(workbench: FakeWorkbench) -> ChatFlow:
    return ChatFlow(workbench)


def ask(text: str = "", do: str = "send", models: tuple[str, ...] = ("adder",), **more) -> Ask:
    return Ask(do=do, stream="s1", text=text, models=list(models), system="Be kind.", **more)


async def page_after(flow: ChatFlow, *asked: Ask, stop_at: str = "") -> tuple[dict[str, str], list[dict]]:
    """(the thread's turns by key, all updates) once the page has shown all updates of what was asked."""
    turns: dict[str, str] = {}
    updates = []
    for one in asked:
        turns.pop("question", None)
        turns.pop("answer", None)
        async for update in flow.answer(one):
            updates.append(update)
            for key in update.get("gone", []):
                turns.pop(key, None)
            turns |= dict(update.get("turns", []))
            if stop_at and stop_at in " ".join(turns.values()):
                flow.stop("s1")
    return turns, updates


def keys(turns: dict[str, str]) -> list[str]:
    return [key.rstrip("0123456789") for key in turns]


async def kept(workbench: FakeWorkbench) -> list[str]:
    """What the last conversation keeps."""
    (latest, *_) = await workbench.conversations.find()
    return [view.content.strip() for view in await workbench.conversations.messages(latest.id)]


def test_empty_fields_leave_the_models_defaults():
    assert sampling_options([None, "", " ", *NO_PARAMETERS[3:]]) == SamplingOptions()


def test_fields_are_read_as_numbers():
    options = sampling_options(["0,5", "0.9", "-1", "0", "1.1", "64", "-7"])
    assert options == SamplingOptions(0.5, 0.9, -1, 0.0, 1.1, 64, -7)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_what_a_field_says_is_allowed_is_allowed_and_nothing_else(parameter):
    def taken(value: str) -> bool:
        texts = [value if each is parameter else None for each in PARAMETERS]
        try:
            return bool(sampling_options(texts))
        except BadRequestError:
            return False

    numbers = [int(number) for number in re.findall(r"\d+", parameter.allowed)]
    if numbers:
        assert taken(str(numbers[0])) is not parameter.allowed.startswith("above")
    if len(numbers) == 2:
        low, high = numbers
        assert [taken(str(value)) for value in (low - 1, high, high + 1)] == [False, True, False]


@pytest.mark.parametrize(
    ("index", "text"), [(0, "hot"), (0, "-1"), (0, "nan"), (1, "0"), (2, "1.5"), (5, "0"), (6, "x")]
)
def test_a_field_out_of_range_is_refused_with_its_value(index, text):
    texts: list[str | None] = list(NO_PARAMETERS)
    texts[index] = text
    with pytest.raises(BadRequestError, match=text):
        sampling_options(texts)


async def test_the_page_ends_with_what_the_database_keeps(flow, workbench):
    turns, updates = await page_after(flow, ask("2 + 3"))
    assert keys(turns) == ["turn-", "turn-"]
    question, answer = turns.values()
    assert "2 + 3" in question
    assert "adder says: 2 + 3" in answer
    assert "switched in" in answer
    assert updates[0]["conversation"] == "1"
    assert workbench.calls == [("chat", ("adder", "2 + 3", "Be kind.", SamplingOptions()))]


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (ask("hello", models=()), "Pick a model first."),
        (ask("hello", options={"temperature": "11"}), "temperature is 11"),
        (ask("  "), "The message is empty."),
        (ask("hello", models=("qwen3-0.6b",)), "not downloaded"),
        (ask("hello", models=("adder", "adder")), "different models"),
        (ask("hello", conversation=99), "no conversation 99"),
        (ask("", do="continue", conversation=99), "no conversation 99"),
    ],
)
async def test_what_is_refused_keeps_its_text_and_leaves_no_conversation(flow, workbench, refused, why):
    turns, updates = await page_after(flow, refused)
    assert keys(turns) == ["question", "answer"]
    assert why in turns["answer"]
    assert updates[-1]["draft"] == refused.text
    assert await workbench.conversations.find() == []
    assert not updates[-1].get("conversation")


async def test_a_message_that_the_model_refuses_is_back_in_the_box_and_nowhere_else(flow, workbench):
    turns, updates = await page_after(flow, ask("far too long"))
    assert keys(turns) == ["question", "answer"]
    assert "700 tokens" in turns["answer"]
    assert (updates[-1]["draft"], updates[-1]["conversation"]) == ("far too long", "")
    assert await workbench.conversations.find() == []
    await page_after(flow, ask("hello"))
    (conversation,) = await workbench.conversations.find()
    both = ("adder", "storyteller")
    for refused in (
        ask("too long", conversation=conversation.id),
        ask("too long", models=both, conversation=conversation.id),
    ):
        turns, updates = await page_after(flow, refused)
        assert turns["answer"].count("700 tokens") == 1
        assert updates[-1]["draft"] == "too long"
        assert await kept(workbench) == ["Be kind.", "hello", "adder says: hello"]


async def test_a_failure_keeps_the_partial_answer_and_the_chat_goes_on(flow):
    turns, updates = await page_after(flow, ask("fail"))
    assert "adder says:" in turns["turn-2"]
    assert "died. Send the message again." in turns["turn-2"]
    assert "draft" not in updates[-1]
    turns, _ = await page_after(flow, ask("again", conversation=1))
    assert "adder says: again" in turns["turn-4"]


async def test_an_unexpected_error_is_named_but_not_shown(flow):
    turns, _ = await page_after(flow, ask("boom"))
    assert "inside Workbench: ZeroDivisionError. The log has the details." in turns["turn-2"]
    assert "a bug" not in turns["turn-2"]


async def test_stop_aborts_and_keeps_what_was_written(flow, workbench):
    turns, _ = await page_after(flow, ask("slow"), stop_at="word1")
    assert workbench.aborted == 1
    assert "stopped" in turns["turn-2"]
    assert (await kept(workbench))[-1].startswith("word0 word1")


async def test_a_stop_before_the_first_token_says_so(flow, workbench):
    workbench.warm_workers = 0
    turns, _ = await page_after(flow, ask("hello"), stop_at="Warming up")
    assert "Stopped before the answer began." in turns["turn-2"]


async def test_a_stop_before_the_message_was_taken_gives_it_back(flow, workbench):
    turns, updates = await page_after(flow, ask("hello"), stop_at="hello")
    assert keys(turns) == ["question", "answer"]
    assert (updates[-1]["draft"], updates[-1]["conversation"]) == ("hello", "")
    assert await workbench.conversations.find() == []


async def test_a_conversation_deleted_under_its_answer_is_told(flow, workbench):
    turns = {}
    async for update in flow.answer(ask("slow")):
        turns |= dict(update.get("turns", []))
        if "word1" in turns["answer"] and await workbench.conversations.find():
            await workbench.conversations.delete(1)
            flow.stop("s1")
    assert "word0" in turns["answer"]
    assert "no conversation 1" in turns["answer"]


async def test_a_closed_page_aborts_the_answer(flow, workbench):
    async with aclosing(flow.answer(ask("slow"))) as updates:
        async for update in updates:
            if "word1" in str(update):
                break
    assert workbench.aborted == 1
    assert flow._running == {}


async def test_another_answer_becomes_a_version_and_the_first_can_be_chosen_again(flow, workbench):
    await page_after(flow, ask("2 + 3"))
    turns, _ = await page_after(flow, ask(do="regenerate", models=("storyteller",), conversation=1))
    assert keys(turns) == ["turn-"]
    assert "storyteller says: 2 + 3" in turns["turn-2"]
    assert "2 / 2" in turns["turn-2"]
    assert await kept(workbench) == ["Be kind.", "2 + 3", "storyteller says: 2 + 3"]
    await workbench.conversations.choose(2, 0)
    assert "adder says: 2 + 3" in dict(await flow.turn(1, 2))["turn-2"]


async def test_a_question_without_an_answer_is_answered(flow, workbench):
    await page_after(flow, ask("2 + 3"))
    (question, _) = (await workbench.conversations.messages(1))[1:]
    branch = await workbench.conversations.branch(question.id)
    turns, _ = await page_after(flow, ask(do="regenerate", conversation=branch))
    assert "adder says: 2 + 3" in next(iter(turns.values()))
    assert await kept(workbench) == ["Be kind.", "2 + 3", "adder says: 2 + 3"]


async def test_a_continuation_grows_the_answer_itself(flow, workbench):
    await page_after(flow, ask("count on"))
    turns, updates = await page_after(flow, ask(do="continue", conversation=1))
    assert "adder says: count on" in dict(updates[0]["turns"])["turn-2"], "what was there stays in sight"
    assert "adder says: count on count on" in turns["turn-2"]
    assert await kept(workbench) == ["Be kind.", "count on", "adder says: count on count on"]


async def test_a_refused_version_leaves_the_answer_and_says_why(flow, workbench):
    await page_after(flow, ask("2 + 3"))
    turns, _ = await page_after(flow, ask(do="regenerate", models=("qwen3-0.6b",), conversation=1))
    assert "adder says: 2 + 3" in turns["turn-2"]
    assert "not downloaded" in turns["answer"]


async def test_models_are_compared_side_by_side_and_one_that_fails_stops_no_other(flow, workbench):
    both = ("adder", "storyteller")
    turns, _ = await page_after(flow, ask("2 + 3", models=both))
    assert turns["turn-2"].count('data-testid="side"') == 2
    assert "adder says: 2 + 3" in turns["turn-2"]
    assert "storyteller says: 2 + 3" in turns["turn-2"]
    workbench.fails = "storyteller"
    turns, _ = await page_after(flow, ask("once more", models=both, conversation=1))
    assert "adder says: once more" in turns["turn-4"]
    assert "The worker that ran storyteller died." in turns["turn-4"]
    (*_, last) = await workbench.conversations.messages(1)
    assert [version.model for version in last.versions] == ["adder", "storyteller"]
    assert last.content.strip() == "adder says: once more"


async def test_an_answer_is_given_again_by_several_models_beside_the_first(flow, workbench):
    await page_after(flow, ask("2 + 3"))
    both = ("adder", "storyteller")
    turns, _ = await page_after(flow, ask(do="regenerate", models=both, conversation=1))
    assert keys(turns) == ["turn-"]
    assert turns["turn-2"].count('data-testid="side"') == 3
    (*_, last) = await workbench.conversations.messages(1)
    assert [version.model for version in last.versions] == ["adder", "adder", "storyteller"]
    assert (last.version, last.compared) == (1, True)
    await workbench.conversations.edit(last.id - 1, "too long")
    turns, _ = await page_after(flow, ask(do="regenerate", models=both, conversation=1))
    assert "700 tokens" in turns["answer"]
    assert (await workbench.conversations.messages(1))[-1] == last, "what no model can take adds nothing"


async def test_a_question_that_one_of_two_models_refuses_is_kept_with_why(flow, workbench):
    workbench.refuses = "storyteller"
    turns, _ = await page_after(flow, ask("2 + 3", models=("adder", "storyteller")))
    assert "adder says: 2 + 3" in turns["turn-2"]
    assert "700 tokens" in turns["turn-2"]
    (*_, last) = await workbench.conversations.messages(1)
    assert ["700 tokens" in version.error for version in last.versions] == [False, True]


async def test_a_stopped_comparison_keeps_what_all_have_written(flow, workbench):
    await page_after(flow, ask("slow", models=("adder", "storyteller")), stop_at="word3")
    (*_, last) = await workbench.conversations.messages(1)
    assert all(version.content.startswith("word0") for version in last.versions[:1])
    assert workbench.in_flight == 0


async def test_a_conversation_opens_as_it_was_left(flow):
    await page_after(flow, ask("hello", options={"temperature": "0.5"}))
    opened = await flow.opened("1")
    assert (opened["conversation"], opened["model"], opened["system"]) == ("1", "adder", "Be kind.")
    assert opened["options"]["temperature"] == "0.5"
    assert "adder says: hello" in dict(opened["turns"])["turn-2"]


@pytest.mark.parametrize("wanted", ["", "99", "x", "-1"])
async def test_an_unknown_conversation_opens_a_new_one(flow, wanted):
    assert await flow.opened(wanted) == {"conversation": "", "turns": []}


async def test_events_come_in_batches_and_an_empty_one_moves_the_clock():
    released = asyncio.Event()

    async def source():
        yield Token("a", 1)
        yield Token("b", 2)
        await released.wait()
        yield Token("c", 3)

    batches = []
    async for batch in PacedEvents(source(), interval=0, idle=0.01).batches():
        batches.append("".join(event.text for event in batch))
        if batch == []:
            released.set()
    assert "".join(batches) == "abc"
    assert "" in batches


async def test_events_before_an_error_are_not_lost():
    async def source():
        yield Token("a", 1)
        raise ValueError("broken")

    batches = PacedEvents(source(), interval=0).batches()
    assert await anext(batches) == [Token("a", 1)]
    with pytest.raises(ValueError, match="broken"):
        await anext(batches)


async def test_a_second_stop_does_not_cut_off_what_the_first_one_has_kept():
    """The page is drawn from what is kept, so that must be there when the events are over."""
    stored = asyncio.Event()

    async def source():
        try:
            while True:
                yield Token("a", 1)
                await asyncio.sleep(0)
        finally:
            for _ in range(3):
                await asyncio.sleep(0.01)
            stored.set()

    events = PacedEvents(source(), interval=0, idle=0.001)
    async for _ in events.batches():
        events.stop()
    assert stored.is_set()
