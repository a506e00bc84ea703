"""Queries on a real file."""

import pytest

from workbench.catalog.serving import ENGINE_ARGS
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Conversation, Message, Model, Request, Swap
from workbench.errors import BadRequestError, ConflictError, NotFoundError


def hub_model(name: str = "qwen", hub_id: str = "Qwen/Qwen3-0.6B", **columns: object) -> Model:
    return Model(name=name, source_kind="hub", hub_id=hub_id, **columns)


def test_models_are_added_listed_changed_and_removed(catalog: Catalog) -> None:
    catalog.add_model(hub_model("b"))
    catalog.add_model(
        Model(name="a", source_kind="local", folder="/models/a", engine_args={"block_size": 16})
    )
    assert [model.name for model in catalog.models()] == ["b", "a"]
    assert catalog.model("a").engine_args == {"block_size": 16}
    assert catalog.update_model("a", eager=False, engine_args={"seed": 1}).eager is False
    assert catalog.model("a").engine_args == {"seed": 1}
    assert catalog.remove_model("b").hub_id == "Qwen/Qwen3-0.6B"
    assert [model.name for model in catalog.models()] == ["a"]


def test_rows_are_values(catalog: Catalog) -> None:
    model = catalog.add_model(hub_model())
    model.description = "changed on my copy only"
    assert catalog.model("qwen").description == ""


def test_unknown_names_and_ids(catalog: Catalog) -> None:
    for call in (catalog.model, catalog.remove_model, catalog.update_model):
        with pytest.raises(NotFoundError, match='no model named "nobody"'):
            call("nobody")
    for call in (catalog.conversation, catalog.messages, catalog.delete_conversation):
        with pytest.raises(NotFoundError, match="no conversation 7"):
            call(7)
    with pytest.raises(NotFoundError, match="no conversation 7"):
        catalog.append_message(Message(conversation_id=7, role="user"))
    with pytest.raises(NotFoundError, match="message is gone"):
        catalog.update_message(7, content="late")


def test_a_name_and_a_hub_revision_are_listed_once(catalog: Catalog) -> None:
    catalog.add_model(hub_model("one"))
    with pytest.raises(ConflictError, match='a model named "one" already'):
        catalog.add_model(hub_model("one", "Qwen/Qwen3-4B"))
    with pytest.raises(ConflictError, match='in the catalog already, as "one"'):
        catalog.add_model(hub_model("two"))
    catalog.add_model(hub_model("two", revision="v2"))


@pytest.mark.parametrize(
    "hub_id", ["", "gpt2", "a/b/c", "../etc", "a/..", "a--b/c", "a/b.git", "http://h/m", "ä/b"]
)
def test_malformed_hub_ids(catalog: Catalog, hub_id: str) -> None:
    with pytest.raises(BadRequestError, match="no hub id"):
        catalog.add_model(hub_model(hub_id=hub_id))


@pytest.mark.parametrize("revision", ["../main", "a b", "-x", "main?x=1"])
def test_malformed_revisions(catalog: Catalog, revision: str) -> None:
    with pytest.raises(BadRequestError, match="no revision"):
        catalog.add_model(hub_model(revision=revision))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"dtype": "float8"}, "dtype is float8, and must be one of auto, bfloat16"),
        ({"quantization": "awq"}, "quantization is awq"),
        ({"serve_context_length": 0}, "whole number from 1 to"),
        ({"context_length": 10, "serve_context_length": 11}, "from 1 to 10"),
        ({"kv_cache_bytes": 1000}, "kv_cache_bytes is 1000"),
        (
            {"engine_args": {"trust_remote_code": True}},
            "trust_remote_code is not allowed: choose from async_sch",
        ),
        ({"engine_args": {"worker_cls": "os.system"}}, "worker_cls is not allowed"),
        (
            {"engine_args": {"max_num_seqs": 0}},
            "max_num_seqs is 0, and must be a whole number from 1 to 4096",
        ),
        ({"engine_args": {"max_num_seqs": True}}, "max_num_seqs is True"),
        ({"engine_args": {"enable_prefix_caching": 1}}, "must be one of True, False"),
        ({"engine_args": {"block_size": 16.0}}, "block_size is 16.0"),
    ],
)
def test_serving_parameters_are_checked_at_each_door(
    catalog: Catalog, columns: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadRequestError, match=sentence):
        catalog.add_model(hub_model("new", **columns))
    catalog.add_model(hub_model("kept"))
    with pytest.raises(BadRequestError, match=sentence):
        catalog.update_model("kept", **columns)
    assert catalog.model("kept").engine_args == {}


@pytest.mark.parametrize("name", ["", "-x", "a b", "../up", "x" * 97])
def test_malformed_names(catalog: Catalog, name: str) -> None:
    with pytest.raises(BadRequestError, match="no model name"):
        catalog.add_model(hub_model(name))


@pytest.mark.engine
def test_allowed_engine_arguments_exist() -> None:
    from vllm.engine.arg_utils import EngineArgs

    assert set(ENGINE_ARGS) <= set(EngineArgs.__dataclass_fields__)


def test_unfinished_downloads_are_taken_over(catalog: Catalog) -> None:
    for state in ("none", "queued", "downloading", "done", "cancelled", "failed"):
        catalog.add_model(hub_model(state, revision=state, download_state=state))
    unfinished = {model.name: model.download_state for model in catalog.interrupt_downloads()}
    assert unfinished == {
        "queued": "cancelled",
        "downloading": "cancelled",
        "cancelled": "cancelled",
        "failed": "failed",
    }
    assert catalog.model("downloading").download_state == "cancelled"
    assert catalog.model("done").download_state == "done"


def test_messages_keep_their_order_and_figures(catalog: Catalog) -> None:
    chat = catalog.create_conversation("sums", "adder", "be brief", {"temperature": 0.5})
    assert catalog.conversation(chat.id).options == {"temperature": 0.5}
    catalog.append_message(Message(conversation_id=chat.id, role="user", content="1+1"))
    answer = catalog.append_message(Message(conversation_id=chat.id, role="assistant", model="adder"))
    catalog.update_message(answer.id, content="2", ttft_s=0.25, completion_tokens=1, finish_reason="stop")
    question, answer = catalog.messages(chat.id)
    assert (question.position, question.content, question.ttft_s) == (0, "1+1", None)
    assert (answer.position, answer.content, answer.ttft_s) == (1, "2", 0.25)


def test_a_turn_is_stored_with_what_its_conversation_was_asked_with(catalog: Catalog) -> None:
    def say(
        text: str, chat: int | None = None, system: str | None = None
    ) -> tuple[Conversation, list[Message]]:
        return catalog.take_turn(
            chat, text, model="adder", system=system, options={"top_k": 3}, title=text.upper()
        )

    chat, history = say("one", system="be brief")
    assert (chat.title, chat.model, chat.system, chat.options) == ("ONE", "adder", "be brief", {"top_k": 3})
    assert history == []
    chat, history = say("two", chat.id)
    assert [turn.content for turn in history] == ["one"]
    assert (chat.title, chat.system) == ("ONE", "be brief")
    chat, _ = say("three", chat.id, system="")
    assert catalog.conversation(chat.id).system == ""
    turns = catalog.messages(chat.id)
    assert [(turn.position, turn.role, turn.content, turn.model) for turn in turns] == [
        (0, "user", "one", "adder"),
        (1, "user", "two", "adder"),
        (2, "user", "three", "adder"),
    ]
    with pytest.raises(NotFoundError):
        say("to nobody", 4711)


def test_the_latest_conversation_comes_first(catalog: Catalog) -> None:
    first, second = (catalog.create_conversation(title) for title in ("first", "second"))
    assert [summary.conversation.id for summary in catalog.conversations()] == [second.id, first.id]
    catalog.append_message(Message(conversation_id=first.id, role="user"))
    summaries = catalog.conversations()
    assert [summary.conversation.id for summary in summaries] == [first.id, second.id]
    assert [summary.message_count for summary in summaries] == [1, 0]


def test_search_looks_at_titles_and_messages_in_any_case(catalog: Catalog) -> None:
    titled = catalog.create_conversation("Über Straßen")
    told = catalog.create_conversation("other")
    catalog.append_message(Message(conversation_id=told.id, role="user", content="a 100% ÜBERRASCHUNG"))
    catalog.append_message(Message(conversation_id=told.id, role="user", content="überhaupt"))

    def found(search: str) -> set[int]:
        return {summary.conversation.id for summary in catalog.conversations(search)}

    assert found("über") == {titled.id, told.id}
    assert found(" STRASSEN ") == {titled.id}
    assert found("100%") == {told.id}
    assert found("1_0%") == set()  # no wildcards
    assert found("  ") == {titled.id, told.id}


def test_conversations_are_renamed_and_deleted_with_their_messages(catalog: Catalog) -> None:
    chat = catalog.create_conversation("old")
    message = catalog.append_message(Message(conversation_id=chat.id, role="user"))
    assert catalog.rename_conversation(chat.id, " new ").title == "new"
    with pytest.raises(BadRequestError, match="title is empty"):
        catalog.rename_conversation(chat.id, "  ")
    with pytest.raises(BadRequestError, match="has 201 characters, and may have 200"):
        catalog.rename_conversation(chat.id, "x" * 201)
    catalog.delete_conversation(chat.id)
    with pytest.raises(NotFoundError):
        catalog.update_message(message.id, content="orphan")
    assert catalog.create_conversation().id > chat.id  # ids are not given out twice


def test_swaps_and_requests_are_recorded_latest_first(catalog: Catalog) -> None:
    catalog.record_swap(Swap(model="adder", started_at=1.0, evicted=["counter"], weights_s=0.5))
    catalog.record_swap(Swap(model="counter", started_at=2.0, outcome="failed", error="no memory"))
    assert [(row.model, row.weights_s, row.evicted) for row in catalog.recent_swaps()] == [
        ("counter", 0.0, []),
        ("adder", 0.5, ["counter"]),
    ]
    for number in range(3):
        catalog.record_request(Request(request_id=f"r{number}", model="adder", received_at=float(number)))
    assert [row.request_id for row in catalog.recent_requests(limit=2)] == ["r2", "r1"]
