"""What a model that falls asleep on the CPU keeps of its KV cache: the blocks that were used last.

A conversation that comes back to its model goes on from there; without them, all of its history would be read
again, a second for some 40 tokens of a model with a billion parameters on 2 cores.

Written against vLLM 0.32.0: `v1/core/block_pool.py`, `v1/core/kv_cache_manager.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

KEPT_BYTES = 128 << 20
"""At most, by each model asleep. What a worker is granted (`pool/devices.py`) has room for it."""


def last_used(manager: Any, layers: Sequence[torch.Tensor], kept_bytes: int = KEPT_BYTES) -> list[int]:
    """Ids of the cached blocks to keep, from that which vLLM would give up last.

    None of a cache with several groups of layers, or that does not hold block after block, or of which a
    request holds a block. Of blocks with the same contents, which the same answer leaves behind twice, one.

    Args:
        manager: vLLM's `KVCacheManager`.
        layers: the KV cache of each layer.
        kept_bytes: what the kept blocks may take, all layers together.
    """
    pool = manager.block_pool
    free = pool.free_block_queue.get_all_free_blocks()
    plain = len(manager.kv_cache_config.kv_cache_groups) == 1 and all(
        layer.shape[0] == len(pool.blocks) and layer[0].is_contiguous() for layer in layers
    )
    if not layers or not plain or len(free) != len(pool.blocks) - 1:  # one is a placeholder, never free
        return []
    count = kept_bytes // sum(layer[0].nbytes for layer in layers)
    kept: dict[bytes, int] = {}
    for block in reversed(free):
        if len(kept) == count:
            break
        if block.block_hash is not None:
            kept.setdefault(block.block_hash, block.block_id)
    return list(kept.values())


def forget_all_but(pool: Any, kept: Sequence[int]) -> None:
    """Have vLLM's `BlockPool` find no other blocks any more."""
    cached = {block.block_id for block in pool.blocks if block.block_hash is not None}
    pool.evict_blocks(cached.difference(kept))


def gaps(layers: Sequence[torch.Tensor], kept: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Addresses, begin and end, of what the memory of `layers` holds besides the blocks `kept`."""
    extents = sorted(extent for layer in layers for extent in _extents(layer, kept))
    storages = {storage.data_ptr(): storage for storage in map(torch.Tensor.untyped_storage, layers)}
    for begin, storage in storages.items():
        at, end = begin, begin + storage.nbytes()
        for kept_begin, kept_end in extents:
            if begin <= kept_begin < end:
                if at < kept_begin:
                    yield at, kept_begin
                at = max(at, kept_end)
        if at < end:
            yield at, end


def _extents(layer: torch.Tensor, blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Addresses, begin and end, of blocks in one layer."""
    begin, stride, size = layer.data_ptr(), layer.stride(0) * layer.itemsize, layer[0].nbytes
    return ((begin + block * stride, begin + block * stride + size) for block in blocks)
