"""The host of an engine core that only pretends."""

import pickle
from types import SimpleNamespace

import pytest

from workbench.engine import core, groups
from workbench.engine.host import EngineHost
from workbench.engine.loading import current_watch
from workbench.engine.prepared.preparation import Preparation


class Core:
    """Is up at once."""

    def __init__(self, *args):
        watch = current_watch.get()
        watch.mark("weights")
        watch.mark("kv_cache")


@pytest.mark.parametrize(
    ("device", "mapped", "eager", "can_sleep"),
    [
        ("cpu", True, True, True),
        ("cpu", False, True, False),
        ("cpu", True, False, False),
        ("cuda:0", False, False, True),
    ],
)
def test_a_model_can_sleep_where_its_weights_take_no_memory_then(
    monkeypatch, device, mapped, eager, can_sleep
):
    monkeypatch.setattr(core, "WarmEngineCore", Core)
    monkeypatch.setattr(groups, "keep_groups_for", lambda vllm_config: None)
    monkeypatch.setattr(Preparation, "of", lambda *args: SimpleNamespace(mapped=mapped))
    host = EngineHost(device)
    host._pack = lambda layer, remove_weight: None
    config = SimpleNamespace(model_config=SimpleNamespace(enforce_eager=eager))
    host.load(pickle.dumps(config), "ipc://in", "ipc://out", lambda done_bytes: None)
    assert host.can_sleep is can_sleep
