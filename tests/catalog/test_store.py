"""Queries on a real file."""

import pytest

from workbench.catalog.serving import ENGINE_ARGS
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Message, Model, Request, Swap
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
    for call in (catalog.chats.conversation, catalog.chats.messages, catalog.chats.delete_conversation):
        with pytest.raises(NotFoundError, match="no conversation 7"):
            call(7)
    with pytest.raises(NotFoundError, match="no conversation 7"):
        catalog.chats.append_message(Message(conversation_id=7, role="user"))
    with pytest.raises(NotFoundError, match="message is gone"):
        catalog.chats.edit_message(7, "late")


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

    from workbench.engine.parsers import ARGUMENTS

    assert set(ENGINE_ARGS) - set(ARGUMENTS) <= set(EngineArgs.__dataclass_fields__)


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


def test_the_first_load_of_each_model_is_found(catalog: Catalog) -> None:
    catalog.record_swap(Swap(model="adder", outcome="failed"))
    catalog.record_swap(Swap(model="adder", total_s=5.0))
    catalog.record_swap(Swap(model="counter", woken=True, total_s=0.01))
    catalog.record_swap(Swap(model="adder", total_s=0.5))
    catalog.record_swap(Swap(model="counter", total_s=0.4))
    assert [(row.model, row.total_s) for row in catalog.first_loads()] == [("adder", 5.0), ("counter", 0.4)]
