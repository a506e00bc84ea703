"""Conversations: their turns, versions of answers, branches and presets."""

import pytest

from workbench.catalog.chats import MOST_RESTORABLE
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Conversation, Message
from workbench.errors import BadRequestError, NotFoundError


def answer(chat: int, text: str, **columns: object) -> Message:
    columns = {"model": "adder", "finish_reason": "stop", "completion_tokens": 1} | columns
    return Message(conversation_id=chat, role="assistant", content=text, **columns)


def asked(catalog: Catalog, *turns: str) -> tuple[int, list[Message]]:
    """A conversation whose turns are questions and answers by turns."""
    chat = catalog.chats.create_conversation("sums", "adder").id
    for number, text in enumerate(turns):
        turn = answer(chat, text) if number % 2 else Message(conversation_id=chat, role="user", content=text)
        catalog.chats.append_message(turn)
    return chat, catalog.chats.messages(chat)


def test_messages_keep_their_order_and_figures(catalog: Catalog) -> None:
    chat = catalog.chats.create_conversation("sums", "adder", "be brief", {"temperature": 0.5})
    assert catalog.chats.conversation(chat.id).options == {"temperature": 0.5}
    catalog.chats.append_message(Message(conversation_id=chat.id, role="user", content="1+1"))
    catalog.chats.append_message(answer(chat.id, "2", ttft_s=0.25))
    question, reply = catalog.chats.messages(chat.id)
    assert (question.position, question.content, question.ttft_s) == (0, "1+1", None)
    assert (reply.position, reply.content, reply.ttft_s) == (1, "2", 0.25)


def test_a_turn_is_stored_with_what_its_conversation_was_asked_with(catalog: Catalog) -> None:
    def say(
        text: str, chat: int | None = None, system: str | None = None
    ) -> tuple[Conversation, list[Message]]:
        return catalog.chats.take_turn(
            chat, text, model="adder", system=system, options={"top_k": 3}, title=text.upper()
        )

    chat, history = say("one", system="be brief")
    assert (chat.title, chat.model, chat.system, chat.options) == ("ONE", "adder", "be brief", {"top_k": 3})
    assert history == []
    chat, history = say("two", chat.id)
    assert [turn.content for turn in history] == ["one"]
    assert (chat.title, chat.system) == ("ONE", "be brief")
    chat, _ = say("three", chat.id, system="")
    assert catalog.chats.conversation(chat.id).system == ""
    turns = catalog.chats.messages(chat.id)
    assert [(turn.position, turn.role, turn.content, turn.model) for turn in turns] == [
        (0, "user", "one", "adder"),
        (1, "user", "two", "adder"),
        (2, "user", "three", "adder"),
    ]
    with pytest.raises(NotFoundError):
        say("to nobody", 4711)


def test_the_latest_conversation_comes_first(catalog: Catalog) -> None:
    first, second = (catalog.chats.create_conversation(title) for title in ("first", "second"))
    assert [chat.id for chat in catalog.chats.conversations()] == [second.id, first.id]
    catalog.chats.append_message(Message(conversation_id=first.id, role="user"))
    assert [chat.id for chat in catalog.chats.conversations()] == [first.id, second.id]


def test_search_looks_at_titles_and_messages_in_any_case(catalog: Catalog) -> None:
    titled = catalog.chats.create_conversation("Über Straßen")
    told = catalog.chats.create_conversation("other")
    catalog.chats.append_message(Message(conversation_id=told.id, role="user", content="a 100% ÜBERRASCHUNG"))
    catalog.chats.append_message(Message(conversation_id=told.id, role="user", content="überhaupt"))

    def found(search: str) -> set[int]:
        return {chat.id for chat in catalog.chats.conversations(search)}

    assert found("über") == {titled.id, told.id}
    assert found(" STRASSEN ") == {titled.id}
    assert found("100%") == {told.id}
    assert found("1_0%") == set()  # no wildcards
    assert found("  ") == {titled.id, told.id}


def test_conversations_are_renamed_and_deleted_with_their_messages(catalog: Catalog) -> None:
    chat = catalog.chats.create_conversation("old")
    message = catalog.chats.append_message(Message(conversation_id=chat.id, role="user"))
    assert catalog.chats.rename_conversation(chat.id, " new ").title == "new"
    with pytest.raises(BadRequestError, match="title is empty"):
        catalog.chats.rename_conversation(chat.id, "  ")
    with pytest.raises(BadRequestError, match="has 201 characters, and may have 200"):
        catalog.chats.rename_conversation(chat.id, "x" * 201)
    catalog.chats.delete_conversation(chat.id)
    with pytest.raises(NotFoundError):
        catalog.chats.edit_message(message.id, "orphan")
    assert catalog.chats.create_conversation().id > chat.id  # ids are not given out twice


def test_what_was_deleted_last_is_restored_as_it_was(catalog: Catalog) -> None:
    chat, (_, reply) = asked(catalog, "1+1", "3")
    catalog.chats.add_version(reply.id, answer(chat, "2", ttft_s=0.5))
    before = [turn.model_dump() for turn in catalog.chats.messages(chat)]
    catalog.chats.delete_conversation(chat)
    with pytest.raises(NotFoundError):
        catalog.chats.append_message(answer(chat, "late"))
    catalog.chats.restore_conversation(chat)
    assert [turn.model_dump() for turn in catalog.chats.messages(chat)] == before
    assert catalog.chats.conversation(chat).title == "sums"
    with pytest.raises(NotFoundError, match="can't be brought back"):
        catalog.chats.restore_conversation(chat)
    many = [asked(catalog, "1+1")[0] for _ in range(MOST_RESTORABLE + 1)]
    for each in many:
        catalog.chats.delete_conversation(each)
    with pytest.raises(NotFoundError):
        catalog.chats.restore_conversation(many[0])
    catalog.chats.restore_conversation(many[1])
    assert [found.id for found in catalog.chats.conversations()] == [many[1], chat]


def test_another_version_counts_and_the_earlier_ones_are_kept(catalog: Catalog) -> None:
    chat, (_, first) = asked(catalog, "1+1", "3")
    catalog.chats.add_version(first.id, answer(chat, "2", model="counter", ttft_s=0.5))
    (_, now) = catalog.chats.messages(chat)
    assert (now.content, now.model, now.ttft_s, now.version) == ("2", "counter", 0.5, 1)
    catalog.chats.edit_message(now.id, "two")
    catalog.chats.choose_version(now.id, 0)
    (_, now) = catalog.chats.messages(chat)
    assert (now.content, now.model, now.ttft_s) == ("3", "adder", None)
    assert [version["content"] for version in now.versions] == ["3", "two"]
    with pytest.raises(NotFoundError, match="no version 3"):
        catalog.chats.choose_version(now.id, 2)


def test_places_of_versions_are_filled_in_any_order(catalog: Catalog) -> None:
    chat, _ = asked(catalog, "1+1")
    places = [answer(chat, "", model=model).as_version() for model in ("adder", "counter")]
    kept = catalog.chats.append_message(answer(chat, "", versions=places, compared=True))
    catalog.chats.set_version(kept.id, 1, answer(chat, "1, 2", model="counter"))
    catalog.chats.set_version(kept.id, 0, answer(chat, "2"))
    (_, now) = catalog.chats.messages(chat)
    assert [version["content"] for version in now.versions] == ["2", "1, 2"]
    assert (now.content, now.model, now.compared) == ("2", "adder", True)


def test_a_continuation_belongs_to_its_answer(catalog: Catalog) -> None:
    chat, (_, first) = asked(catalog, "count", "1, 2")
    catalog.chats.extend_message(first.id, answer(chat, ", 3", duration_s=2.0, finish_reason="length"))
    (_, now) = catalog.chats.messages(chat)
    assert (now.content, now.completion_tokens, now.duration_s, now.finish_reason) == (
        "1, 2, 3",
        2,
        2.0,
        "length",
    )


def test_a_branch_has_the_turns_so_far_and_goes_its_own_way(catalog: Catalog) -> None:
    chat, turns = asked(catalog, "1+1", "2", "2+2", "4")
    branch = catalog.chats.branch(turns[1].id)
    assert (branch.title, branch.model) == ("sums (branch)", "adder")
    catalog.chats.edit_message(catalog.chats.messages(branch.id)[0].id, "1+2")
    assert [turn.content for turn in catalog.chats.messages(branch.id)] == ["1+2", "2"]
    assert [turn.content for turn in catalog.chats.messages(chat)] == ["1+1", "2", "2+2", "4"]
    assert catalog.chats.branch(catalog.chats.messages(branch.id)[0].id).title == "sums (branch)"
    catalog.chats.delete_conversation(chat)
    assert len(catalog.chats.messages(branch.id)) == 2


def test_an_edit_leaves_something(catalog: Catalog) -> None:
    _, (question,) = asked(catalog, "1+1")
    with pytest.raises(BadRequestError, match="would be empty"):
        catalog.chats.edit_message(question.id, " ")


def test_presets_are_saved_under_their_names(catalog: Catalog) -> None:
    catalog.chats.save_preset(" terse ", "Be brief.", {"temperature": 0})
    catalog.chats.save_preset("Bold", "", {"temperature": 1.5})
    catalog.chats.save_preset("terse", "Be very brief.", {})
    saved = [(preset.name, preset.system, preset.options) for preset in catalog.chats.presets()]
    assert saved == [("Bold", "", {"temperature": 1.5}), ("terse", "Be very brief.", {})]
    catalog.chats.delete_preset("Bold")
    with pytest.raises(NotFoundError, match='no preset named "Bold"'):
        catalog.chats.delete_preset("Bold")
    with pytest.raises(BadRequestError, match="no name"):
        catalog.chats.save_preset(" ", "", {})
