"""Conversations as files: nothing is lost in JSON, text survives Markdown, nonsense is refused."""

import json

import pytest

from workbench.catalog.tables import Conversation, Message
from workbench.chat.transfer import from_text, to_json, to_markdown
from workbench.errors import BadRequestError

TRICKY = "# A heading\n\n<!-- workbench: user -->\n**bold** at the start\n\nend"


def conversation() -> tuple[Conversation, list[Message]]:
    first = Message(role="assistant", content="3", model="adder", ttft_s=0.5, finish_reason="stop")
    answer = Message(role="assistant", content="2", model="counter", ttft_s=0.25, completion_tokens=1)
    answer.versions = [first.as_version(), answer.as_version()]
    answer.version, answer.compared = 1, True
    answer.content = "two"  # edited after it was written
    turns = [Message(role="user", content=TRICKY), answer]
    return Conversation(title="Sums & more", model="counter", system="Be brief.", options={"top_k": 3}), turns


def test_json_keeps_everything():
    row, turns = conversation()
    read, messages = from_text(to_json(row, turns))
    assert (read.title, read.model, read.system, read.options) == (
        row.title, row.model, row.system, row.options
    )  # fmt: skip
    assert read.created_at == row.created_at
    assert messages[0].content == TRICKY
    answer = messages[1]
    assert (answer.content, answer.model, answer.ttft_s, answer.version, answer.compared) == (
        "two", "counter", 0.25, 1, True
    )  # fmt: skip
    assert [version["content"] for version in answer.versions] == ["3", "two"]


def test_markdown_keeps_who_said_what():
    row, turns = conversation()
    text = to_markdown(row, turns)
    assert "**You**\n\n# A heading" in text
    read, messages = from_text(text)
    assert (read.title, read.system, read.model) == ("Sums & more", "Be brief.", "counter")
    assert [(turn.role, turn.content) for turn in messages] == [("user", TRICKY), ("assistant", "two")]


def test_line_ends_of_windows_are_read():
    row, turns = conversation()
    _, messages = from_text(to_markdown(row, turns).replace("\n", "\r\n"))
    assert [turn.content for turn in messages] == [TRICKY, "two"]


def test_messages_of_other_programs_are_read():
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    read, messages = from_text(json.dumps(turns))
    assert (read.title, read.system) == ("hi", "Be kind.")
    assert [turn.content for turn in messages] == ["hi"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no conversation that was exported from here"),
        ("just text", "no conversation that was exported from here"),
        ("{", "no valid JSON"),
        ("[" * 5000, "no valid JSON"),
        ("{}", "messages: Field required"),
        ('[{"role": "robot"}]', "messages.0.role"),
        ("[]", "has no messages"),
        ('[{"role": "assistant", "version": -1}]', "messages.0.version"),
        ('{"messages": [{"role": "user"}], "created_at": NaN}', "NaN is no number"),
        ('{"messages": [{"role": "user"}], "options": {"seed": 1' + "0" * 400 + "}}", "seed"),
        ('{"messages": [{"role": "user"}], "options": {"top_k": "x"}}', "no numbers"),
        ('[{"role": "assistant", "prompt_tokens": 1' + "0" * 30 + "}]", "no answer can have"),
        (json.dumps([{"role": "user"}] * 10_001), "10,001 turns"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_reason(text, why):
    with pytest.raises(BadRequestError, match=why):
        from_text(text)


def test_a_version_that_is_not_there_is_ignored():
    _, (answer,) = from_text('[{"role": "assistant", "content": "x", "version": 3, "compared": true}]')
    assert (answer.version, answer.compared, answer.versions) == (0, False, [])
