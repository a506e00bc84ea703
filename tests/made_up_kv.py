"""KV caches that no engine has filled."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.engine.kv_cache import (
    TABLE_ITEM,
    BlockState,
    KvGroup,
    KvRequest,
    KvSnapshot,
    Span,
    StepBin,
)

NOW = 10_000.0
ATTENTION = KvGroup("full_attention", 4, 16, 0)


def request(number: int, *tables: Sequence[int], prompt: int = 20, output: int = 5, **more: Any) -> KvRequest:
    """A request of `prompt` + `output` tokens, the last of which is not computed yet."""
    values = {"sample": 0, "id": f"request-{number}", "running": True, "reused_tokens": 0} | more
    return KvRequest(
        number=number,
        prompt_tokens=prompt,
        output_tokens=output,
        computed_tokens=values.pop("computed", prompt + output - 1),
        tables=tuple(array(TABLE_ITEM, table).tobytes() for table in tables),
        **values,
    )


def snapshot(
    blocks: int, requests: Sequence[KvRequest] = (), kept: Sequence[int] = (), **more: Any
) -> KvSnapshot:
    """A pool in which the requests hold what their tables say."""
    groups = more.pop("groups", (ATTENTION,))
    holders = Counter(
        block for one in requests for group in range(len(groups)) for block in one.table(group) if block
    )
    states = bytearray([BlockState.FREE]) * blocks
    states[0] = BlockState.NULL
    for block in kept:
        states[block] = BlockState.KEPT
    for block, count in holders.items():
        states[block] = BlockState.SHARED if count > 1 else BlockState.USED
    values = {
        "taken_at": NOW,
        "took_s": 0.001,
        "block_bytes": 16_000,
        "running": len(requests),
        "waiting": 0,
        "max_running": 256,
        "context_length": 64,
        "caching": True,
        "usage": len(holders) / (blocks - 1),
        "prefix_queries": 200,
        "prefix_hits": 76,
        "preemptions": 0,
    }
    return KvSnapshot(states=bytes(states), groups=groups, requests=tuple(requests), **(values | more))


def busy(blocks: int = 340, requests: int = 8) -> KvSnapshot:
    """Requests with a common prefix of two blocks and a minute of steps behind them."""
    held = [request(n + 1, [1, 2, 3 + 2 * n, 4 + 2 * n], prompt=44, output=6 + n) for n in range(requests)]
    return snapshot(
        blocks,
        held,
        kept=range(40, 52),
        context_length=256,
        bins=tuple(
            StepBin(NOW - 50 + n, 60, int(n % 5 == 0), 60, 40 * (n % 5 == 0), 60 * (n % 7 + 1), n % 7 + 1)
            for n in range(49)
        ),
        spans=tuple(
            [Span(n, 0, NOW - 70 + 4 * n, NOW - 69.8 + 4 * n, NOW - 60 + 5 * n, n == 4) for n in range(12)]
            + [Span(one.number, 0, NOW - 5, NOW - 4.8, 0.0, False) for one in held]
        ),
    )


def full(blocks: int, requests: int) -> KvSnapshot:
    """A pool without a free block, each held by a request far from its neighbours: the worst to tell."""
    tables = [list(range(1 + n, blocks, requests)) for n in range(requests)]
    held = [
        request(n + 1, table, prompt=16 * len(table) - 8, output=4, id=f"<b>{n}" * 30, sample=n % 4)
        for n, table in enumerate(tables)
    ]
    return snapshot(
        blocks,
        held,
        context_length=16 * blocks,
        bins=tuple(StepBin(NOW - 60 + n / 4, 250, 200, 250, 99_999, 99_999, 256) for n in range(240)),
        spans=tuple(Span(n, n % 4, NOW - 59.99, NOW - 30.01, NOW - 0.01, False) for n in range(1024)),
    )
