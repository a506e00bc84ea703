"""The KV cache as we tell it, beside what the engine itself counts at the same step. One engine, in here."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from types import SimpleNamespace

import msgspec
import pytest
from vllm import SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.parallel_sampling import ParentRequest

from workbench.engine.core import WarmExecutor
from workbench.engine.kv_cache import BlockState, KvSnapshot
from workbench.engine.kv_snapshot import WatchedEngineCore, take
from workbench.engine.steps import StepRecorder

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

BLOCK_TOKENS = 32
BLOCKS = 120
PREFIX = list(range(10, 10 + 2 * BLOCK_TOKENS + 6))
"""Two full blocks, and a little."""


@pytest.fixture(scope="module")
def core() -> Iterator[WatchedEngineCore]:
    """The storyteller with few small blocks, stepped by the tests themselves."""
    arguments = AsyncEngineArgs(
        model="data/demo/storyteller",
        block_size=BLOCK_TOKENS,
        num_gpu_blocks_override=BLOCKS,
        kv_cache_memory_bytes=64 << 20,
        max_model_len=512,
        enforce_eager=True,
        distributed_executor_backend=WarmExecutor,
    )
    cores = os.sched_getaffinity(0)
    with without_numba():
        made = WatchedEngineCore(arguments.create_engine_config(), WarmExecutor, log_stats=True)
    os.sched_setaffinity(0, cores)  # vLLM binds this thread, and processes of later tests would inherit that
    yield made
    made.shutdown()
    cleanup_dist_env_and_memory()


@contextlib.contextmanager
def without_numba() -> Iterator[None]:
    """As before numba is imported: vLLM, which asks every object of every module, trips over its own."""
    hidden = {
        name: module for name, module in sys.modules.items() if name.split(".")[0] in ("numba", "llvmlite")
    }
    for name in hidden:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(hidden)


class Meter:
    """Steps an engine and adds up what the engine says of itself."""

    def __init__(self, core: WatchedEngineCore) -> None:
        self.core = core
        before = self.look()
        self.queries, self.hits, self.preempted = (
            before.prefix_queries,
            before.prefix_hits,
            before.preemptions,
        )
        self.requests: list = []

    def ask(self, name: str, prompt: Sequence[int], tokens: int, n: int = 1) -> None:
        """Add a request as vLLM's front end does, a child for each sample."""
        params = SamplingParams(n=n, max_tokens=tokens, ignore_eos=True, temperature=1.0)
        request = EngineCoreRequest(
            name, list(prompt), None, params, None, time.time(), None, None, None, external_req_id=name
        )
        parent = ParentRequest(request)
        for index in range(n):
            child = copy(request)
            if n > 1:
                child.request_id, child.sampling_params = parent.get_child_info(index)
            made, wave = self.core.preprocess_add_request(child)
            self.requests.append(made)
            self.core.add_request(made, wave)

    def step(self):
        """One step; returns the engine's own statistics of it."""
        outputs, _ = self.core.step_fn()
        stats = next((out.scheduler_stats for out in outputs.values() if out.scheduler_stats), None)
        if stats is not None:
            self.queries += stats.prefix_cache_stats.queries
            self.hits += stats.prefix_cache_stats.hits
        return stats

    def look(self) -> KvSnapshot:
        """As the app gets it."""
        return msgspec.msgpack.decode(self.core.kv_snapshot(), type=KvSnapshot)

    def check(self, stats) -> KvSnapshot:
        """Compare what we tell with the engine's own figures."""
        seen, scheduler = self.look(), self.core.scheduler
        manager, pool = scheduler.kv_cache_manager, scheduler.kv_cache_manager.block_pool
        assert seen.usage == stats.kv_cache_usage == pool.get_usage()
        assert seen.used_blocks / seen.usable_blocks == pytest.approx(stats.kv_cache_usage)
        assert seen.count(BlockState.FREE) + seen.count(BlockState.KEPT) == pool.get_num_free_blocks()
        assert (seen.running, seen.waiting) == (stats.num_running_reqs, stats.num_waiting_reqs)
        assert (seen.prefix_queries, seen.prefix_hits) == (self.queries, self.hits)
        preempted = self.preempted + sum(request.num_preemptions for request in self.requests)
        assert seen.preemptions == preempted
        self.check_tables(seen, manager, pool)
        return seen

    def check_tables(self, seen: KvSnapshot, manager, pool) -> None:
        holders: Counter[int] = Counter()
        stored = set()
        for request in seen.requests:
            table = list(request.table(0))
            (own,) = manager.get_block_ids(request.id)
            assert table == own
            assert len(set(table)) == len(table), "a block twice in one table"
            assert request.computed_tokens == self.core.scheduler.requests[request.id].num_computed_tokens
            holders.update(table)
            stored |= {place(table, position) for position in range(request.computed_tokens)}
        for block in pool.blocks[1:]:
            assert holders[block.block_id] == block.ref_cnt
            shared = seen.states[block.block_id] == BlockState.SHARED
            assert shared == (holders[block.block_id] > 1), "a block in two tables that is not told as shared"
        assert seen.paged.used_tokens == len(stored)
        assert seen.paged.tokens == len(holders) * BLOCK_TOKENS
        assert seen.contiguous.used_tokens == sum(request.computed_tokens for request in seen.requests)

    def drain(self) -> None:
        while self.core.scheduler.has_requests():
            self.step()


def place(table: list[int], position: int) -> tuple[int, int]:
    logical, offset = divmod(position, BLOCK_TOKENS)
    return table[logical], offset


def test_eight_requests_with_a_common_prefix_and_four_samples_each(core):
    meter = Meter(core)
    for number in range(8):
        meter.ask(f"tale-{number}", [*PREFIX, 500 + number, *range(20, 20 + 3 * number)], 12 + number, n=4)
    most_shared = 0
    while core.scheduler.has_unfinished_requests():
        seen = meter.check(meter.step())
        most_shared = max(most_shared, seen.count(BlockState.SHARED))
        if seen.running == 32:
            assert {request.number for request in seen.requests} == set(range(1, 9))
            assert Counter(request.sample for request in seen.requests) == dict.fromkeys((1, 2, 3, 4), 8)
            shared = {tuple(request.table(0)[:2]) for request in seen.requests}
            assert len(shared) == 1, "the common prefix is stored once"
            assert seen.paged.bytes < seen.contiguous.bytes
    assert most_shared >= 2
    meter.drain()
    seen = meter.look()
    assert seen.requests == ()
    assert seen.used_blocks == 0
    assert seen.count(BlockState.KEPT) > 0
    assert seen.prefix_hits >= 31 * 2 * BLOCK_TOKENS
    stays = [(span.number, span.sample) for span in seen.spans if span.ended]
    assert sorted(stays) == [(number, sample) for number in range(1, 9) for sample in range(1, 5)]
    assert all(span.began <= span.decoding_since <= span.ended for span in seen.spans)
    assert sum(bin.prefill_tokens for bin in seen.bins) == seen.prefix_queries - seen.prefix_hits
    assert sum(bin.decode_tokens for bin in seen.bins) == 4 * sum(11 + number for number in range(8))


def test_two_requests_share_what_they_begin_with(core):
    meter = Meter(core)
    for number in range(2):
        meter.ask(f"pair-{number}", [*PREFIX, 900 + number], 4)
    seen = meter.check(meter.step())
    assert seen.count(BlockState.SHARED) == 2
    while core.scheduler.has_unfinished_requests():
        meter.check(meter.step())
    meter.drain()


def test_preempted_requests_lose_their_blocks_and_come_again(core):
    meter = Meter(core)
    for number in range(9):  # 13 blocks each at first, 14 after 16 tokens: more than there are
        meter.ask(f"long-{number}", range(100 * number, 100 * number + 400), 40)
    while core.scheduler.has_unfinished_requests():
        meter.check(meter.step())
    meter.drain()
    seen = meter.look()
    assert seen.preemptions > 0
    again = Counter((span.number, span.sample) for span in seen.spans)
    assert sum(span.preempted for span in seen.spans) == seen.preemptions
    assert sum(again.values()) - len(again) == seen.preemptions


def test_without_prefix_caching_nothing_is_kept(core):
    manager = core.scheduler.kv_cache_manager
    manager.enable_caching, before = False, manager.enable_caching
    try:
        assert not take(core.scheduler, StepRecorder()).caching
    finally:
        manager.enable_caching = before


def test_a_pool_of_100_000_blocks_is_read_in_milliseconds(core):
    block = SimpleNamespace(ref_cnt=0, block_hash=None, block_id=0)
    blocks = [block, *[copy(block) for _ in range(99_999)]]
    pool = SimpleNamespace(blocks=blocks, null_block=block)
    manager = SimpleNamespace(
        kv_cache_config=core.scheduler.kv_cache_config,
        block_pool=pool,
        coordinator=SimpleNamespace(single_type_managers=()),
        enable_caching=True,
    )
    scheduler = copy(core.scheduler)
    scheduler.kv_cache_manager = manager
    scheduler.get_kv_cache_usage = lambda: 0.0
    seen = take(scheduler, StepRecorder())
    assert seen.count(BlockState.FREE) == 99_999
    assert seen.took_s < 0.25
