"""The worker that sleeps, without a GPU: that level 2 never wakes without its weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from vllm.v1.worker.gpu_worker import Worker

from workbench.engine import sleep
from workbench.engine.sleep import SleepingWorker, weight_sums


class Backend:
    """Drops the weights of a model, at level 2."""

    def __init__(self, model):
        self.model = model
        self.levels = []

    def suspend(self, level):
        self.levels.append(level)
        if level == 2:
            for parameter in self.model.parameters():
                parameter.data.fill_(float("nan"))


@pytest.fixture
def worker(monkeypatch):
    """A worker whose model is a small layer, and whose files hold what the layer began with."""
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(Worker, "wake_up", lambda self, tags: None)
    model = nn.Linear(5, 3)
    files = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loader = SimpleNamespace(get_all_weights=lambda config, model: iter(files.items()))
    monkeypatch.setattr(sleep, "DefaultModelLoader", lambda config: loader)
    worker = SleepingWorker.__new__(SleepingWorker)
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    worker.model_config = None
    worker._backend, worker._sums = Backend(model), None
    worker.files = files
    worker.reload_weights = lambda weights_iterator: model.load_state_dict(dict(weights_iterator))
    return worker


def test_level_2_reads_the_weights_again(worker):
    model = worker.model_runner.get_model()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        worker.sleep(2)
        worker.wake_up()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_weights_that_changed_on_the_disk_are_an_error(worker):
    worker.sleep(2)
    worker.files["weight"][0, 0] += 1
    with pytest.raises(RuntimeError, match="not read again as they were"):
        worker.wake_up()


def test_weights_that_were_not_read_are_an_error(worker):
    worker.sleep(2)
    worker.reload_weights = lambda weights_iterator: None
    with pytest.raises(RuntimeError, match="not read again as they were"):
        worker.wake_up()


def test_level_1_reads_nothing_also_after_level_2(worker):
    worker.sleep(2)
    worker.wake_up()
    worker.reload_weights = None
    worker.sleep(1)
    worker.wake_up()
    assert worker._backend.levels == [2, 1]


def test_sums_see_a_single_bit_also_through_a_transposed_view():
    model = nn.Linear(4, 4).to(torch.bfloat16)
    model.weight.data = model.weight.data.t()
    before = weight_sums(model)
    model.weight.data.untyped_storage()[5] ^= 1
    assert weight_sums(model) != before
