"""What a load leaves to be done for its prepared weights, beside a model that serves and sleeps."""

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
    vllm_config = SimpleNamespace(model_config=SimpleNamespace(model=str(model)))
    return Preparation(KeptMaps(store), vllm_config, set())


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
