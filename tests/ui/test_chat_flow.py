"""The steps of a chat, without a browser: paced events, parameters, refusals, failures, stops."""

import asyncio

import pytest

from tests.ui.fake_workbench import FakeWorkbench
from workbench.errors import BadRequestError
from workbench.service import SamplingOptions, Token
from workbench.ui.answer import PacedEvents
from workbench.ui.chat_flow import ChatFlow, Session, Turn
from workbench.ui.parameters import PARAMETERS, sampling_options

NO_PARAMETERS = [None] * len(PARAMETERS)


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(step_s=0)


@pytest.fixture
def flow(workbench: FakeWorkbench) -> ChatFlow:
    return ChatFlow(workbench)


def turn(
    text: str, conversation: int | None = None, model: str | None = "adder", parameters=NO_PARAMETERS
) -> Turn:
    return Turn(text, model, conversation, "Be kind.", parameters)


async def run(flow: ChatFlow, a_turn: Turn):
    return await collect(flow.send(Session(), a_turn))


async def opened(flow: ChatFlow, wanted: str):
    (view,) = await collect(flow.open(Session(), wanted))
    return view


async def collect(step):
    return [view async for view in step]


async def pass_turns():
    """Let every task go as far as it can without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


def shown(view) -> str:
    return " ".join(value for _, blocks in view.messages for _, value in blocks)


def test_empty_fields_leave_the_models_defaults():
    assert sampling_options([None, "", " ", *NO_PARAMETERS[3:]]) == SamplingOptions()


def test_fields_are_read_as_numbers():
    options = sampling_options(["0,5", "0.9", "-1", "0", "1.1", "64", "-7"])
    assert options == SamplingOptions(0.5, 0.9, -1, 0.0, 1.1, 64, -7)


@pytest.mark.parametrize(
    ("index", "text"), [(0, "hot"), (0, "-1"), (0, "nan"), (1, "0"), (2, "1.5"), (5, "0"), (6, "x")]
)
def test_a_field_out_of_range_is_refused_with_its_value(index, text):
    texts: list[str | None] = list(NO_PARAMETERS)
    texts[index] = text
    with pytest.raises(BadRequestError, match=text):
        sampling_options(texts)


async def test_a_turn_ends_with_what_the_database_keeps(flow, workbench):
    views = await run(flow, turn("2 + 3"))
    assert views[0].text == ""
    assert views[0].conversation == "1"
    assert "adder says: 2 + 3" in shown(views[-1])
    assert "switched in" in shown(views[-1])
    assert workbench.calls == [("chat", ("adder", "2 + 3", "Be kind.", SamplingOptions()))]


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (turn("hello", model=None), "Pick a model first."),
        (turn("hello", parameters=["11", *NO_PARAMETERS[1:]]), "temperature is 11"),
        (turn("  "), "The message is empty."),
        (turn("far too long"), "700 tokens"),
        (turn("hello", model="qwen3-0.6b"), "not downloaded"),
    ],
)
async def test_a_refused_turn_keeps_its_text_and_leaves_no_conversation(flow, workbench, refused, why):
    views = await run(flow, refused)
    assert why in shown(views[-1])
    assert views[-1].text == (refused.text if len(views) > 1 else None)
    assert workbench.chats == {}
    assert not views[-1].conversation


async def test_a_failure_keeps_the_partial_answer_and_the_chat_goes_on(flow):
    failed = await run(flow, turn("fail"))
    assert "adder says:" in shown(failed[-1])
    assert "died. Send the message again." in shown(failed[-1])
    assert failed[-1].text is None
    after = await run(flow, turn("again", conversation=1))
    assert "adder says: again" in shown(after[-1])


async def test_an_unexpected_error_is_named_but_not_shown(flow):
    views = await run(flow, turn("boom"))
    assert "Something went wrong inside Workbench: ZeroDivisionError. The log has the details." in shown(
        views[-1]
    )
    assert "a bug" not in shown(views[-1])


async def test_stop_aborts_and_keeps_what_was_written(flow, workbench):
    session, views = Session(), []
    async for view in flow.send(session, turn("slow")):
        views.append(view)
        if "word" in shown(view):
            session.stop()
    assert workbench.aborted == 1
    assert "stopped" in shown(views[-1])
    assert session.running is None


async def test_a_stop_before_the_first_token_says_so(flow, workbench):
    workbench.warm_workers = 0
    session, views = Session(), []
    async for view in flow.send(session, turn("hello")):
        views.append(view)
        if len(views) == 2:
            session.stop()
    assert "Stopped before the answer began." in shown(views[-1])
    assert workbench.turns[1][-1].stats.finish_reason == "abort"


async def test_a_stop_before_the_message_was_taken_gives_it_back(flow, workbench):
    session, views = Session(), []
    async for view in flow.send(session, turn("hello")):
        views.append(view)
        session.stop()
    assert "Stopped before the answer began." in shown(views[-1])
    assert (views[-1].text, views[-1].conversation) == ("hello", "")
    assert workbench.calls == []
    assert workbench.chats == {}


async def test_a_conversation_deleted_under_its_answer_is_told(flow, workbench):
    views, session = [], Session()
    async for view in flow.send(session, turn("slow")):
        views.append(view)
        if "word" in shown(view) and workbench.chats:
            await workbench.delete_conversation(1)
            session.stop()
    assert "word0" in shown(views[-1])
    assert "Something went wrong" in shown(views[-1])


async def test_a_conversation_opens_when_the_last_view_of_the_answer_before_is_out(flow, workbench):
    session = Session()
    answer, opening = flow.send(session, turn("slow")), flow.open(session, "")
    async for view in answer:
        if "word" in shown(view):
            break
    opened = asyncio.ensure_future(anext(opening))
    await pass_turns()
    assert not opened.done()  # nobody has asked for more of the answer: its last view is still on its way
    assert [view async for view in answer] == []
    assert (await opened).messages == []
    assert workbench.aborted == 1


async def test_what_follows_waits_for_the_view_of_an_opened_conversation(flow):
    session = Session()
    opening, answer = flow.open(session, ""), flow.send(session, turn("hello"))
    await anext(opening)
    first = asyncio.ensure_future(anext(answer))
    await pass_turns()
    assert not first.done()
    await opening.aclose()
    assert "hello" in shown(await first)


async def test_a_message_whose_tab_left_before_it_was_taken_is_not_sent(flow, workbench):
    session = Session()
    before, answer, after = flow.open(session, ""), flow.send(session, turn("hello")), flow.open(session, "")
    await anext(before)
    waiting = [asyncio.ensure_future(collect(step)) for step in (answer, after)]
    await pass_turns()
    await before.aclose()
    views, opened = await asyncio.gather(*waiting)
    assert views == []
    assert opened[-1].messages == []
    assert workbench.calls == []
    assert workbench.chats == {}


async def test_a_change_to_the_list_leaves_the_running_answer_alone(flow, workbench):
    session, views = Session(), []
    async for view in flow.send(session, turn("hello")):
        views.append(view)
        (refreshed,) = await collect(flow.refresh(session, "1"))
        assert refreshed.messages is None
    assert "adder says: hello" in shown(views[-1])
    assert workbench.aborted == 0


async def test_a_new_chat_replaces_a_conversation_that_is_gone(flow, workbench):
    await run(flow, turn("hello"))
    await workbench.delete_conversation(1)
    (view,) = await collect(flow.refresh(Session(), "1"))
    assert (view.messages, view.conversation) == ([], "")


async def test_a_closed_page_aborts_the_answer(flow, workbench):
    steps = flow.send(Session(), turn("slow"))
    async for view in steps:
        if "word" in shown(view):
            break
    await steps.aclose()
    assert workbench.aborted == 1


async def test_a_conversation_opens_as_it_was_left(flow):
    await run(flow, turn("hello"))
    view = await opened(flow, "1")
    assert (view.conversation, view.model, view.system) == ("1", "adder", "Be kind.")
    assert "adder says: hello" in shown(view)


@pytest.mark.parametrize("wanted", ["", "99", "x", "-1"])
async def test_an_unknown_conversation_opens_a_new_one(flow, wanted):
    view = await opened(flow, wanted)
    assert (view.messages, view.conversation) == ([], "")


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
