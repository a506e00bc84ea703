"""What a load leaves to be done for its prepared weights, beside a model that serves and sleeps."""

import os
from types import SimpleNamespace

import pytest

from tests.engine.prepared.weights import SHAPE, make_source, parameters
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
