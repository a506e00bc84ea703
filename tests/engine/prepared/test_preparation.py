"""What a load leaves to be done for its prepared weights, beside a model that serves and sleeps."""

import json
import os
import threading
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tests.engine.prepared.weights import SHAPE, make_source, parameters, settle
from workbench.engine.prepared import plain_load, preparation
from workbench.engine.prepared.fingerprint import FileIdentity, Source
from workbench.engine.prepared.maps import KeptMaps
from workbench.engine.prepared.preparation import Preparation
from workbench.engine.prepared.store import PreparedStore


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A load that finds prepared weights, which nobody has read in full yet."""
    monkeypatch.setattr(preparation, "shaping", lambda vllm_config: SHAPE)
    model = make_source(tmp_path / "model")
    store = PreparedStore(tmp_path / "prepared", 1 << 30)
    assert store.prepare(Source.look(model), SHAPE, parameters())
    return load(store, model)


def load(store, model):
    vllm_config = SimpleNamespace(model_config=SimpleNamespace(model=str(model)))
    return Preparation(KeptMaps(store), vllm_config, set())


def test_weights_of_a_model_that_was_woken_last_are_kept_longest(prepared, tmp_path):
    folder = tmp_path / "prepared"
    (entry,) = folder.glob("*.safetensors")
    store, other = PreparedStore(folder, 1 << 30), make_source(tmp_path / "other", seed=1)
    assert store.prepare(Source.look(other), SHAPE, parameters(1))
    for path in folder.glob("*.safetensors"):
        used_at = 1000 if path == entry else 2000
        os.utime(path.with_suffix(".json"), (used_at, used_at))
    prepared.touch()
    store.evict_to(entry.stat().st_size)
    assert list(folder.glob("*.safetensors")) == [entry]


def test_what_a_sleep_has_interrupted_is_begun_again(prepared):
    damaged = []
    prepared.start(lambda: None, pytest.fail, lambda: damaged.append(True))  # never idle
    prepared.stop()
    prepared.join()
    assert prepared.due
    prepared.start(lambda: 0.0, pytest.fail, lambda: damaged.append(True))
    prepared.join()
    assert not prepared.due
    assert not damaged


class Loaded:
    """A model that has just been loaded, two of its weights in place."""

    def __init__(self, tmp_path, monkeypatch, limit_bytes=1 << 30):
        monkeypatch.setattr(preparation, "shaping", lambda vllm_config: SHAPE)
        self.folder = tmp_path / "prepared"
        self.source = make_source(tmp_path / "model")
        self.preparation = load(PreparedStore(self.folder, limit_bytes), self.source)
        with safe_open(self.source / "model.safetensors", framework="pt") as file:
            self.contents = {name: file.get_tensor(name) for name in ("embed", "norm")}
        self.expected = {name: tensor.clone() for name, tensor in self.contents.items()}
        self.model = torch.nn.Module()
        for name, tensor in self.contents.items():
            self.model.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
        self.model.own = torch.nn.Parameter(torch.ones(3), requires_grad=False)
        self.preparation.keep(self.model, [self.model.embed, self.model.norm])
        self.prepared, self.damaged = threading.Event(), threading.Event()

    def start(self, idle_since=lambda: 0.0):
        self.preparation.start(idle_since, self.prepared.set, self.damaged.set)

    def prepare(self):
        """As the engine does it."""
        self.start()
        assert self.prepared.wait(30)
        self.preparation.take()

    def end(self):
        self.preparation.stop()
        self.preparation.join()

    def in_place(self):
        return [getattr(self.model, name).data_ptr() == at.data_ptr() for name, at in self.contents.items()]

    def sound(self):
        return all(torch.equal(getattr(self.model, name), tensor) for name, tensor in self.expected.items())

    def entries(self):
        return list(self.folder.glob("*.safetensors"))


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_load, "WATCH_S", 0.01)
    loaded = Loaded(tmp_path, monkeypatch)
    yield loaded
    loaded.end()


def test_a_model_uses_the_prepared_file_as_soon_as_there_is_one(loaded):
    own = loaded.model.own.data_ptr()
    assert loaded.in_place() == [True, True]
    loaded.prepare()
    assert loaded.in_place() == [False, False]
    assert loaded.model.own.data_ptr() != own
    assert loaded.sound()
    assert not loaded.preparation.due
    assert not loaded.damaged.is_set()
    (path,) = loaded.entries()
    assert str(path) in Path("/proc/self/maps").read_text()


def test_the_model_changes_its_weights_between_steps_only(loaded):
    loaded.start()
    assert loaded.prepared.wait(30)
    assert loaded.in_place() == [True, True]
    assert loaded.preparation.unwritten_bytes > 0  # nothing may be packed yet
    loaded.preparation.take()
    assert loaded.preparation.unwritten_bytes == 0


def test_a_model_that_can_not_be_prepared_gets_memory_of_its_own(tmp_path, monkeypatch):
    loaded = Loaded(tmp_path, monkeypatch, limit_bytes=10)
    own = loaded.model.own.data_ptr()
    loaded.prepare()
    loaded.end()
    assert loaded.in_place() == [False, False]
    assert loaded.model.own.data_ptr() == own
    assert loaded.sound()
    assert not loaded.entries()


def test_what_was_processed_since_stays_as_it_is(loaded):
    loaded.model.embed.data = loaded.model.embed.data.t().contiguous()
    loaded.model.own.data = loaded.model.own.data.double()
    loaded.prepare()
    assert loaded.in_place() == [False, False]
    assert torch.equal(loaded.model.embed, loaded.expected["embed"].t())
    assert loaded.model.own.dtype == torch.float64


def test_an_engine_without_time_keeps_its_weights_where_they_are(loaded):
    loaded.start()
    assert loaded.prepared.wait(30)
    loaded.preparation.give_up()  # layers are packed from now on
    loaded.preparation.take()
    assert loaded.in_place() == [True, True]
    assert loaded.preparation.unwritten_bytes == 0


def test_a_model_that_is_stopped_before_it_was_idle_keeps_its_weights(loaded):
    loaded.start(idle_since=lambda: None)
    loaded.end()
    assert loaded.in_place() == [True, True]
    assert not loaded.prepared.is_set()
    assert loaded.preparation.unwritten_bytes == 0


@pytest.mark.parametrize("given_up", [False, True])
def test_a_file_that_is_overwritten_while_it_serves_ends_its_engine(loaded, given_up):
    loaded.start(idle_since=lambda: None)
    if given_up:
        loaded.preparation.give_up()
    assert not loaded.damaged.wait(0.1)
    with (loaded.source / "model.safetensors").open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"overwritten")
    assert loaded.damaged.wait(10)


def test_a_file_that_is_overwritten_is_not_prepared(loaded):
    settle(loaded.source)
    with (loaded.source / "model.safetensors").open("r+b") as file:
        file.write(b"overwritten")
    loaded.start()
    assert loaded.damaged.wait(10)
    loaded.end()
    assert not loaded.entries()


@pytest.mark.parametrize("change", ["replaced", "deleted", "given to others", "configured"])
def test_a_file_whose_contents_are_still_there_serves_on(loaded, change):
    path = loaded.source / "model.safetensors"
    if change == "replaced":
        other = make_source(loaded.source.parent / "other", seed=1) / "model.safetensors"
        other.replace(path)
    elif change == "deleted":
        path.unlink()
    elif change == "given to others":
        path.chmod(0o600)
    else:
        (loaded.source / "config.json").write_text("{}")
    loaded.prepare()
    assert loaded.in_place() == [False, False]
    assert loaded.sound()
    assert not loaded.entries()
    assert not loaded.damaged.wait(0.1)


def test_an_entry_that_is_there_already_is_read_before_it_is_used(loaded):
    source = Source.look(loaded.source)
    contents = dict(loaded.preparation._plain.contents)
    assert loaded.preparation._store.prepare(source, SHAPE, contents)
    (path,) = loaded.entries()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"12345678")
    status = path.stat()
    record = json.loads(path.with_suffix(".json").read_text())
    record["identity"] = list(astuple(FileIdentity.of(status)))  # as if a disk had done it
    path.with_suffix(".json").write_text(json.dumps(record))
    loaded.prepare()
    assert loaded.sound()
    assert torch.equal(loaded.model.own, torch.ones(3))  # what the damage was in


def test_a_source_that_changes_while_it_is_written_is_not_prepared(loaded):
    source, store = Source.look(loaded.source), loaded.preparation._store
    store._digests.learn(source, lambda: True)

    def go_on():
        (loaded.source / "model.safetensors").touch()
        return True

    assert not store.prepare(source, SHAPE, loaded.preparation._plain.contents, go_on)
    assert not loaded.entries()


def test_weights_with_a_second_view_are_seen_by_it_too(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "shaping", lambda vllm_config: SHAPE)
    source = make_source(tmp_path / "model")
    store, expected = PreparedStore(tmp_path / "prepared", 1 << 30), {"norm": parameters()["norm"]}
    assert store.prepare(Source.look(source), SHAPE, expected)
    model = torch.nn.Module()
    model.norm = torch.nn.Parameter(torch.zeros(5, 3), requires_grad=False)
    view = model.norm.data.view(15)
    assert load(store, source).map_into(model)
    assert torch.equal(view, expected["norm"].view(15))
    assert torch.equal(model.norm, expected["norm"])
