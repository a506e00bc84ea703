"""Blocks of a KV cache that a model asleep keeps, over vLLM's own block pool."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from vllm.v1.core.block_pool import BlockPool

from workbench.engine import core
from workbench.engine.cpu_sleep import SleepingCPUWorker
from workbench.engine.kv_kept import forget_all_but, gaps, last_used

BLOCKS = 16
BLOCK = (2, 32, 64)
"""Heads, tokens, and twice the size of a head: 8 KiB in bfloat16, two pages."""
LAYERS = 3
BLOCK_BYTES = LAYERS * 2 * 32 * 64 * 2


@pytest.fixture
def layers():
    """As vLLM makes them: views of one buffer."""
    buffer = torch.ones(LAYERS * BLOCKS * BLOCK_BYTES // LAYERS // 2, dtype=torch.bfloat16)
    return list(buffer.view(LAYERS, BLOCKS, *BLOCK).unbind())


@pytest.fixture
def manager():
    """A KV cache in which requests leave blocks 1, 2, 3, … in this order."""
    pool = BlockPool(BLOCKS, enable_caching=True, hash_block_size=32)
    config = SimpleNamespace(kv_cache_groups=["one"])
    return SimpleNamespace(block_pool=pool, kv_cache_config=config)


def leave(manager, *contents):
    """Have a request fill a block with each of the contents, and end."""
    blocks = manager.block_pool.get_new_blocks(len(contents))
    for block, content in zip(blocks, contents, strict=True):
        key = content.encode() + b"\0\0\0\0"
        block.set_block_hash(key, 32)
        manager.block_pool.cached_block_hash_to_block.insert(key, block)
    manager.block_pool.free_blocks(reversed(blocks))
    return [block.block_id for block in blocks]


def found(manager, content):
    cached = manager.block_pool.get_cached_block(content.encode(), [0])
    return cached[0].block_id if cached else None


def test_what_was_used_last_is_kept_and_all_else_forgotten(manager, layers):
    leave(manager, "a", "b")
    c, d = leave(manager, "c", "d")
    kept = last_used(manager, layers, 2 * BLOCK_BYTES)
    assert kept == [c, d], "the beginning of a chain first"
    forget_all_but(manager.block_pool, kept)
    assert [found(manager, content) for content in "abcd"] == [None, None, c, d]


def test_the_same_contents_are_kept_once(manager, layers):
    leave(manager, "a", "b")
    a, b = leave(manager, "a", "b")
    kept = last_used(manager, layers, 4 * BLOCK_BYTES)
    assert kept == [a, b]
    forget_all_but(manager.block_pool, kept)
    assert [found(manager, content) for content in "ab"] == [a, b]


def test_without_room_for_a_block_nothing_is_kept(manager, layers):
    leave(manager, "a")
    assert last_used(manager, layers, BLOCK_BYTES - 1) == []


def test_nothing_is_kept_while_a_request_holds_a_block(manager, layers):
    (a,) = leave(manager, "a")
    (held,) = manager.block_pool.get_new_blocks(1)
    assert last_used(manager, layers) == []
    manager.block_pool.free_blocks([held])
    assert last_used(manager, layers) == [a]


def test_nothing_is_kept_of_caches_of_other_shapes(manager, layers):
    leave(manager, "a")
    assert last_used(manager, layers)
    assert last_used(manager, []) == []
    assert last_used(manager, [layer.transpose(0, 1) for layer in layers]) == []
    assert last_used(manager, [layer.transpose(1, 2) for layer in layers]) == []
    manager.kv_cache_config.kv_cache_groups.append("another")
    assert last_used(manager, layers) == []


def test_gaps_are_all_but_the_kept_blocks(layers):
    begin, block = layers[0].data_ptr(), BLOCK_BYTES // LAYERS
    layer = BLOCKS * block
    expected = [(0, 2), (4, BLOCKS + 2), (BLOCKS + 4, 2 * BLOCKS + 2), (2 * BLOCKS + 4, 3 * BLOCKS)]
    assert layer == layers[1].data_ptr() - begin
    assert list(gaps(layers, [3, 2])) == [(begin + a * block, begin + b * block) for a, b in expected]
    assert list(gaps(layers, range(BLOCKS))) == []
    assert list(gaps(layers, [])) == [(begin, begin + LAYERS * layer)]


def test_a_model_asleep_has_its_kept_blocks_and_zeros(layers):
    worker = SleepingCPUWorker.__new__(SleepingCPUWorker)
    worker.model_runner = SimpleNamespace(kv_caches=layers)
    worker.kept_blocks = [1, 15]
    worker.sleep()
    for layer in layers:
        assert (layer[1] == 1).all()
        assert (layer[15] == 1).all()
        assert not layer[3:14].any(), "but for parts of pages beside what is kept"


def test_a_model_that_falls_asleep_believes_in_nothing_that_it_gives_back(manager, layers, monkeypatch):
    monkeypatch.setattr(core, "last_used", partial(last_used, kept_bytes=2 * BLOCK_BYTES))
    worker = SleepingCPUWorker.__new__(SleepingCPUWorker)
    worker.model_runner = SimpleNamespace(kv_caches=layers)
    engine = core.WarmEngineCore.__new__(core.WarmEngineCore)
    engine.model_executor = SimpleNamespace(driver_worker=SimpleNamespace(worker=worker))
    engine.scheduler = SimpleNamespace(kv_cache_manager=manager)
    engine._falls_asleep = True
    leave(manager, "a", "b")
    c, d = leave(manager, "c", "d")
    assert engine.reset_prefix_cache()
    assert worker.kept_blocks == [c, d]
    assert [found(manager, content) for content in "abcd"] == [None, None, c, d]
