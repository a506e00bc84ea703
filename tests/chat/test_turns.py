"""Turns over a real catalog: who may answer when, and what is kept when things go wrong."""

import asyncio
from contextlib import aclosing

import pytest

from tests.ui.fake_workbench import FakeWorkbench
from workbench.errors import ConflictError, NotFoundError, UnavailableError
from workbench.values import Finished, SamplingOptions, Token


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(step_s=0)


async def finished(events) -> Finished:
    *_, last = [event async for event in events]
    return last


async def kept(workbench: FakeWorkbench, conversation: int) -> list[str]:
    return [turn.content.strip() for turn in await workbench.conversations.messages(conversation)]


async def first_token(events) -> None:
    async for event in events:
        if isinstance(event, Token):
            return


async def test_of_two_tabs_that_send_at_once_one_is_refused(workbench):
    conversation = (await finished(workbench.chat("adder", "one"))).conversation_id
    both = [
        finished(workbench.chat("adder", text, conversation_id=conversation)) for text in ("two", "three")
    ]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Finished, ConflictError]
    assert await kept(workbench, conversation) == ["one", "adder says: one", "two", "adder says: two"]


async def test_nothing_changes_beneath_an_answer(workbench):
    conversation = (await finished(workbench.chat("adder", "slow down"))).conversation_id
    question, answer = await workbench.conversations.messages(conversation)
    async with aclosing(workbench.chat("adder", "slow", conversation_id=conversation)) as events:
        await first_token(events)
        for change in (
            workbench.conversations.edit(question.id, "other"),
            workbench.conversations.choose(answer.id, 0),
            finished(workbench.regenerate(conversation, options=SamplingOptions())),
            finished(workbench.continue_answer(conversation, options=SamplingOptions())),
        ):
            with pytest.raises(ConflictError, match="being answered already"):
                await change
    await workbench._answering.finish()
    await workbench.conversations.edit(question.id, "other")


async def test_an_answer_never_lands_in_another_conversation(workbench):
    workbench.step_s = 0.01
    conversation = (await finished(workbench.chat("adder", "one"))).conversation_id
    going = asyncio.ensure_future(
        finished(workbench.regenerate(conversation, model="adder", options=SamplingOptions()))
    )
    await asyncio.sleep(0.01)
    await workbench.conversations.delete(conversation)
    other = (await finished(workbench.chat("adder", "two"))).conversation_id
    await going
    assert await kept(workbench, other) == ["two", "adder says: two"]
    with pytest.raises(NotFoundError):
        await workbench.conversations.messages(conversation)


async def test_an_answer_that_is_not_kept_is_not_called_complete(workbench, monkeypatch):
    conversation = (await finished(workbench.chat("adder", "one"))).conversation_id

    def full(*_):
        raise UnavailableError("The database can't grow because its disk is full.")

    monkeypatch.setattr(workbench._store.chats, "add_version", full)
    with pytest.raises(UnavailableError, match="disk is full"):
        await finished(workbench.regenerate(conversation, options=SamplingOptions()))
    await finished(workbench.chat("adder", "two", conversation_id=conversation))  # and it is free again


async def test_a_comparison_that_is_left_aborts_all_and_keeps_what_was_written(workbench):
    workbench.step_s = 0.005
    numbers = set()
    async with aclosing(workbench.compare(["adder", "storyteller"], "slow")) as events:
        async for number, event in events:
            numbers |= {number} if isinstance(event, Token) else set()
            if numbers == {0, 1}:
                break
    await workbench._answering.finish()
    assert (workbench.in_flight, workbench.aborted) == (0, 2)
    (_, answer) = await workbench.conversations.messages(1)
    assert all(version.content.startswith("word0") for version in answer.versions)


async def test_another_system_prompt_holds_for_another_version(workbench):
    conversation = (await finished(workbench.chat("adder", "one", system="Be brief."))).conversation_id
    await finished(workbench.regenerate(conversation, system="Be long.", options=SamplingOptions()))
    assert (await workbench.conversations.get(conversation)).system == "Be long."


async def test_what_can_not_be_answered_is_refused(workbench):
    empty = await workbench.conversations.create("adder")
    for refused in (
        workbench.regenerate(empty, options=SamplingOptions()),
        workbench.continue_answer(empty, options=SamplingOptions()),
    ):
        with pytest.raises(ConflictError):
            await finished(refused)
