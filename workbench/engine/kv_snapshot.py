"""Reads a KV cache off vLLM's scheduler, on the engine core's own thread, between two steps.

Written against vLLM 0.32.0: `v1/core/block_pool.py`, `v1/core/kv_cache_manager.py`.
"""

import time
from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from vllm.v1.engine.core import EngineCore
from vllm.v1.kv_cache_interface import get_kv_cache_spec_kind, get_kv_cache_spec_sliding_window

from workbench.engine.kv_cache import TABLE_ITEM, BlockState, KvGroup, KvRequest, KvSnapshot
from workbench.engine.steps import StepRecorder


class WatchedEngineCore(EngineCore):
    """An engine core that notes its steps and can tell what its KV cache holds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recorder = StepRecorder()
        super().__init__(*args, **kwargs)

    @contextmanager
    def capture_iteration_details(self, scheduler_output: Any) -> Generator[Any, None, None]:
        """Upstream's, which is around each step exactly once, however steps overlap."""
        began = time.monotonic()
        with super().capture_iteration_details(scheduler_output) as details:
            yield details
        if scheduler_output is not None:
            self._recorder.record(scheduler_output, began, time.monotonic())

    def _attach_iteration_details(self, outputs: Any, iteration_details: Any) -> None:
        """Upstream's, which sees the figures of each step; its count of prefix hits begins anew with each."""
        super()._attach_iteration_details(outputs, iteration_details)
        for output in outputs.values():
            if output.scheduler_stats is not None:
                prefix = output.scheduler_stats.prefix_cache_stats
                self._recorder.count_prefix(prefix.queries, prefix.hits)

    def kv_snapshot(self) -> bytes:
        """The KV cache now: a `KvSnapshot` in msgpack, because the channel knows plain values only."""
        return msgspec.msgpack.encode(take(self.scheduler, self._recorder))


def take(scheduler: Any, recorder: StepRecorder) -> KvSnapshot:
    """Read the KV cache of a scheduler; 100,000 blocks take some milliseconds."""
    began = time.monotonic()
    manager = scheduler.kv_cache_manager
    config, pool = manager.kv_cache_config, manager.block_pool
    tables = [one for one in manager.coordinator.single_type_managers if one.block_pool is pool]
    running = {request.request_id for request in scheduler.running}
    holders = [request.request_id for request in scheduler.running]
    holders += {name for one in tables for name, blocks in one.req_to_blocks.items() if blocks} - running
    sizes = [tensor.size for tensor in config.kv_cache_tensors if not tensor.host_resident]
    return KvSnapshot(
        taken_at=began,
        states=_states(pool),
        block_bytes=max(sizes, default=0) // len(pool.blocks),
        groups=tuple(_group(config.kv_cache_groups[one.kv_cache_group_id], one) for one in tables),
        requests=tuple(
            _request(scheduler.requests[name], name in running, tables, recorder)
            for name in holders
            if name in scheduler.requests
        ),
        running=len(running),
        waiting=scheduler.get_request_counts()[1],
        max_running=scheduler.max_num_running_reqs,
        context_length=scheduler.max_model_len,
        caching=manager.enable_caching,
        usage=scheduler.get_kv_cache_usage(),
        prefix_queries=recorder.prefix_queries,
        prefix_hits=recorder.prefix_hits,
        preemptions=recorder.preemptions,
        bins=recorder.bins(began),
        spans=recorder.spans(began),
        took_s=time.monotonic() - began,
    )


def _states(pool: Any) -> bytes:
    free, kept, used, shared = map(
        int, (BlockState.FREE, BlockState.KEPT, BlockState.USED, BlockState.SHARED)
    )
    states = bytearray(
        [
            (used if block.ref_cnt == 1 else shared)
            if block.ref_cnt
            else (free if block.block_hash is None else kept)
            for block in pool.blocks
        ]
    )
    states[pool.null_block.block_id] = BlockState.NULL
    return bytes(states)


def _group(spec: Any, manager: Any) -> KvGroup:
    return KvGroup(
        kind=get_kv_cache_spec_kind(spec.kv_cache_spec).value,
        layers=len(spec.layer_names),
        block_tokens=manager.block_size,
        window=get_kv_cache_spec_sliding_window(spec.kv_cache_spec) or 0,
    )


def _request(request: Any, running: bool, tables: Sequence[Any], recorder: StepRecorder) -> KvRequest:
    name = request.request_id
    stay = recorder.stays.get(name)
    return KvRequest(
        number=stay.number if stay else 0,
        sample=stay.sample if stay else 0,
        id=name,
        running=running,
        prompt_tokens=request.num_prompt_tokens,
        output_tokens=request.num_output_tokens,
        computed_tokens=request.num_computed_tokens,
        reused_tokens=stay.reused_tokens if stay else 0,
        tables=tuple(
            array(TABLE_ITEM, [block.block_id for block in one.req_to_blocks.get(name, ())]).tobytes()
            for one in tables
        ),
    )
