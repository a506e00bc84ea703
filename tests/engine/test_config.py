"""Engine arguments that depend on the platform; no engine is started."""

import importlib.util
import pickle
from dataclasses import replace

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu_worker import Worker

from tests.conftest import DEMO
from workbench.engine import config
from workbench.engine.cpu_worker import WarmCPUWorker
from workbench.engine.spec import ModelSpec

SPEC = ModelSpec("a", "/models/a", 1, 1, 0)


def test_a_model_that_neither_sleeps_nor_captures_graphs_needs_none_on_a_gpu(monkeypatch):
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    assert config._platform_arguments(SPEC) == {}


def test_on_the_cpu_every_model_has_a_worker_that_knows_seeds():
    for sleeps in (False, True):
        arguments = config._platform_arguments(replace(SPEC, sleeps=sleeps))
        assert issubclass(resolve_obj_by_qualname(arguments["worker_cls"]), WarmCPUWorker)


def test_what_a_cpu_reads_slowly_is_cached_in_small_blocks():
    assert "block_size" not in config._platform_arguments(SPEC)
    for weight_bytes, block_tokens in ((4 << 20, 128), (64 << 20, 32)):
        spec = ModelSpec("adder", str(DEMO / "adder"), weight_bytes, 64 << 20, 0)
        engine_config = pickle.loads(config.pickled_config(spec, 8 << 30))
        assert engine_config.cache_config.block_size == block_tokens


def test_a_model_that_sleeps_on_the_cpu_has_a_worker_for_it():
    arguments = config._platform_arguments(replace(SPEC, sleeps=True))
    assert issubclass(resolve_obj_by_qualname(arguments["worker_cls"]), CPUWorker)
    assert not AsyncEngineArgs(model="a", **arguments).enable_sleep_mode


def test_a_model_that_sleeps_on_a_gpu_has_a_worker_for_it(monkeypatch):
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    arguments = config._platform_arguments(replace(SPEC, sleeps=True))
    assert issubclass(resolve_obj_by_qualname(arguments["worker_cls"]), Worker)
    assert AsyncEngineArgs(model="a", **arguments).enable_sleep_mode


def test_graphs_are_captured_for_few_sizes_unless_eager():
    spec = replace(SPEC, cuda_graph_sizes=(1, 8))
    assert "cudagraph_capture_sizes" not in config._platform_arguments(spec)
    arguments = config._platform_arguments(replace(spec, eager=False))
    assert AsyncEngineArgs(model="a", **arguments).cudagraph_capture_sizes == [1, 8]


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ([], "auto"),
        (["fastsafetensors"], "fastsafetensors"),
        ([*config.FAST_FORMATS], config.FAST_FORMATS[0]),
    ],
)
def test_the_fastest_reader_that_is_installed_is_taken(monkeypatch, installed, expected):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    assert config.fast_load_format() == expected
