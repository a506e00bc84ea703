"""What a load leaves to be done for its prepared weights, beside a model that serves and sleeps."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tests.engine.prepared.weights import SHAPE, make_source, parameters, settle
from workbench.engine.prepared import preparation
from workbench.engine.prepared.fingerprint import Source
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
    prepared.start(lambda: None, lambda: damaged.append(True))  # never idle
    prepared.stop()
    prepared.join()
    assert prepared.due
    prepared.start(lambda: 0.0, lambda: damaged.append(True))
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
        self.damaged = []

    def prepare(self):
        self.preparation.start(lambda: 0.0, lambda: self.damaged.append(True))
        self.preparation.join()

    def in_place(self):
        return [getattr(self.model, name).data_ptr() == at.data_ptr() for name, at in self.contents.items()]

    def sound(self):
        return all(torch.equal(getattr(self.model, name), tensor) for name, tensor in self.expected.items())


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    return Loaded(tmp_path, monkeypatch)


def test_a_model_serves_from_the_prepared_file_as_soon_as_there_is_one(loaded):
    own = loaded.model.own.data_ptr()
    assert loaded.in_place() == [True, True]
    loaded.prepare()
    assert loaded.in_place() == [False, False]
    assert loaded.model.own.data_ptr() != own
    assert loaded.sound()
    assert loaded.preparation.mapped
    assert not loaded.preparation.due
    assert not loaded.damaged
    del loaded.preparation
    (path,) = loaded.folder.glob("*.safetensors")
    assert str(path) in Path("/proc/self/maps").read_text()


def test_a_model_that_can_not_be_prepared_gets_memory_of_its_own(tmp_path, monkeypatch):
    loaded = Loaded(tmp_path, monkeypatch, limit_bytes=10)
    own = loaded.model.own.data_ptr()
    loaded.prepare()
    assert loaded.in_place() == [False, False]
    assert loaded.model.own.data_ptr() == own
    assert loaded.sound()
    assert not loaded.preparation.mapped
    assert not loaded.damaged


def test_a_file_that_is_overwritten_while_it_serves_ends_its_engine(loaded):
    path = loaded.source / "model.safetensors"
    settle(loaded.source)
    with path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"overwritten")
    loaded.prepare()
    assert loaded.damaged
    assert not list(loaded.folder.glob("*.safetensors"))


def test_a_file_that_is_replaced_serves_on_as_it_was(loaded):
    path = loaded.source / "model.safetensors"
    other = make_source(loaded.source.parent / "other", seed=1) / "model.safetensors"
    other.replace(path)
    loaded.prepare()
    assert not loaded.damaged
    assert loaded.sound()
    assert not list(loaded.folder.glob("*.safetensors"))


def test_a_model_that_is_stopped_keeps_its_weights(loaded):
    loaded.preparation.start(lambda: None, lambda: loaded.damaged.append(True))  # never idle
    loaded.preparation.stop()
    loaded.preparation.join()
    assert loaded.in_place() == [True, True]
    assert loaded.preparation.unwritten_bytes == 0
    assert not loaded.damaged
