"""The plain data behind the KV cache page's drawings: block maps, block tables and the batching strip.

However many blocks and requests there are, `data` stays within the bytes it is given: small pools are told
block by block, large ones where something is in them, full ones in cells of several blocks.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.engine.kv_cache import BlockState, KvRequest, KvSnapshot, Span
from workbench.ui import ids
from workbench.ui.render import kv
from workbench.values import KvCacheView, PoolSnapshot

FRAME_BYTES = 65_536
FRAME_MARGIN = 512
"""For what the event stream adds."""
LETTERS = bytes.maketrans(bytes(BlockState), b"n.kus")
"""How the script reads states: null, free, kept, used, shared."""
NOT_FREE = re.compile(b"[^\\x01]+")
PAGE = 8
"""Blocks around one in use that are shown with it."""
FIRST_BLOCKS = 128
"""Blocks that are always shown, so that an idle pool has a picture too."""
MAX_GROUPED_CELLS = 1024
STRIP_COLUMNS = 160
COLOURS = 8
ID_CHARACTERS = 40
OWNER_SAMPLES = 20_000
"""Entries of block tables that are looked at to tell whose a cell of several blocks is."""
BAR_S = 0.5


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is told of each model."""

    cells: int = 1536
    table_characters: int = 18_000
    requests: int = 256
    spans: int = 240

    def coarser(self) -> "Detail":
        """A quarter less of everything."""
        return Detail(*(max(1, getattr(self, name) * 3 // 4) for name in self.__slots__))


def frame(top: Mapping[str, str], pool: PoolSnapshot, views: Sequence[KvCacheView]) -> dict[str, Any]:
    """A whole frame of the page, of at most `FRAME_BYTES` as the event stream sends it."""
    html = {**top, ids.KV: kv.caches(pool, views)}
    room = FRAME_BYTES - FRAME_MARGIN - len(json.dumps(html))
    return {"html": html, "data": data(views[: kv.SHOWN_MODELS], room)}


def data(views: Sequence[KvCacheView], limit_bytes: int) -> dict[str, Any]:
    """What the script draws, as JSON of at most `limit_bytes`."""
    seen = [(view.model, view.snapshot) for view in views if view.snapshot is not None]
    detail = Detail()
    while True:
        made = {"models": [_model(name, snapshot, detail) for name, snapshot in seen]}
        if len(json.dumps(made, separators=(",", ":"))) <= limit_bytes:
            return made
        if detail == Detail(1, 1, 1, 1):
            return {"models": []}
        detail = detail.coarser()


def label(number: int, sample: int) -> str:
    """What people call a request: "7", and "7·2" for its second sample."""
    return f"{number}·{sample}" if sample else str(number)


def _model(name: str, snapshot: KvSnapshot, detail: Detail) -> dict[str, Any]:
    told = snapshot.requests[: detail.requests]
    spans = snapshot.spans[-detail.spans :]
    return {
        "name": name,
        "blocks": len(snapshot.states),
        "groups": [
            [group.kind.replace("_", " "), group.block_tokens if group.holds_tokens else 0]
            for group in snapshot.groups
        ],
        "main": snapshot.main_group,
        "map": _map(snapshot, detail),
        "requests": [_request(request, snapshot, detail, len(told)) for request in told],
        "untold": len(snapshot.requests) - len(told),
        "now": _hundredths(snapshot.taken_at) if spans or snapshot.bins else 0,
        "spans": _spans(spans),
        "untoldSpans": len(snapshot.spans) - len(spans),
        "bars": _bars(snapshot),
    }


# Block maps.


def _map(snapshot: KvSnapshot, detail: Detail) -> dict[str, Any]:
    """All blocks, or the parts of the pool with something in them beside a strip of the whole, or cells."""
    states = snapshot.states
    if len(states) <= detail.cells:
        return {"parts": [[0, _letters(states)]]}
    parts = _parts(states, detail.cells)
    if parts is not None:
        told = [[start, _letters(states[start:end])] for start, end in parts]
        return {"parts": told, "strip": _cells(states, -(-len(states) // STRIP_COLUMNS))}
    per_cell = -(-len(states) // min(detail.cells, MAX_GROUPED_CELLS))
    return {"cells": _cells(states, per_cell) | {"owners": _owners(snapshot, per_cell)}}


def _letters(states: bytes) -> str:
    return states.translate(LETTERS).decode("ascii")


def _parts(states: bytes, limit: int) -> list[tuple[int, int]] | None:
    """Ranges that cover every block that is not free; None if those are more than `limit` blocks."""
    parts = [(0, min(FIRST_BLOCKS, len(states)))]
    total = parts[0][1]
    for found in NOT_FREE.finditer(states):
        start, end = found.start() // PAGE * PAGE, min(-(-found.end() // PAGE) * PAGE, len(states))
        last_start, last_end = parts[-1]
        if end <= last_end:
            continue
        total += end - max(start, last_end)
        if total > limit:
            return None
        if start <= last_end:
            parts[-1] = (last_start, end)
        else:
            parts.append((start, end))
    return parts


def _cells(states: bytes, per_cell: int) -> dict[str, Any]:
    """Counts of blocks in use, shared and kept in each cell of so many blocks."""
    starts = range(0, len(states), per_cell)
    kinds = {"used": BlockState.USED, "shared": BlockState.SHARED, "kept": BlockState.KEPT}
    counts = {
        name: [states.count(kind, start, start + per_cell) for start in starts]
        for name, kind in kinds.items()
    }
    return {"per": per_cell, **counts}


def _owners(snapshot: KvSnapshot, per_cell: int) -> list[int]:
    """The colour of the request that holds most of what is in use in each cell; -1 where none does."""
    cells: list[Counter[int]] = [Counter() for _ in range(-(-len(snapshot.states) // per_cell))]
    tables = [
        (index, request.table(group))
        for index, request in enumerate(snapshot.requests)
        for group in range(len(snapshot.groups))
    ]
    stride = 1 + sum(len(table) for _, table in tables) // OWNER_SAMPLES
    for index, table in tables:
        for block in table[index % stride :: stride]:
            cells[block // per_cell][index] += 1
    return [_majority(cell, snapshot.requests) for cell in cells]


def _majority(cell: Counter[int], requests: Sequence[KvRequest]) -> int:
    ((index, most),) = cell.most_common(1) or ((0, 0),)
    return _colour(requests[index]) if 2 * most > cell.total() else -1


# Requests and their block tables.


def _request(request: KvRequest, snapshot: KvSnapshot, detail: Detail, count: int) -> list[Any]:
    """A row: label, id, colour, whether it runs, token figures, leading shared blocks, block tables."""
    room = detail.table_characters // max(1, count * len(snapshot.groups))
    main = snapshot.main_group
    shared = 0
    if main is not None:
        for block in request.table(main):
            if snapshot.states[block] != BlockState.SHARED:
                break
            shared += 1
    return [
        label(request.number, request.sample),
        request.id[:ID_CHARACTERS],
        _colour(request),
        int(request.running),
        request.prompt_tokens,
        request.output_tokens,
        request.computed_tokens,
        request.reused_tokens,
        shared,
        [table_text(request.table(group), room) for group in range(len(snapshot.groups))],
    ]


def _colour(request: KvRequest | Span) -> int:
    return (request.number + max(0, request.sample - 1)) % COLOURS


def table_text(table: Sequence[int], room: int) -> str:
    """A block table in few characters: "17-20 31 0x3 40" with ranges and repeated placeholders.

    If it is longer than `room`, "~N" stands for N entries in its middle. Of a long table only the ends are
    looked at.
    """
    head, seen = _words(table, 1, room)
    if seen == len(table):
        return " ".join(head)
    head, seen = _words(table, 1, room * 2 // 3)
    tail, seen_behind = _words(table[seen:][::-1], -1, max(room // 3, 8))
    left_out = len(table) - seen - seen_behind
    return " ".join([*head, *([f"~{left_out}"] if left_out else []), *reversed(tail)])


def _words(table: Sequence[int], step: int, room: int) -> tuple[list[str], int]:
    """As many words as fit for the first entries of a table, and the count of these entries.

    `step` is -1 for a table that is read from behind.
    """
    words: list[str] = []
    seen = 0
    while seen < len(table):
        first, length = table[seen], 1
        stride = step if first else 0
        while seen + length < len(table) and table[seen + length] == first + stride * length:
            if first + stride * length == 0 and first:  # a placeholder, not the block before block 1
                break
            length += 1
        word = _word(min(first, first + stride * (length - 1)), length)
        room -= len(word) + 1
        if room < 0:
            break
        words.append(word)
        seen += length
    return words, seen


def _word(first: int, length: int) -> str:
    if length == 1:
        return str(first)
    return f"{first}-{first + length - 1}" if first else f"0x{length}"


# The batching strip. Times are hundredths of a second of the monotonic clock.


def _spans(spans: Sequence[Span]) -> list[list[Any]]:
    """Label, colour, lane, began, decoding since (0: not yet), ended (0: not yet), preempted."""
    rows = []
    ends: list[float] = []
    """When the last stay in each lane ended."""
    for span in spans:
        lane = next((lane for lane, ended in enumerate(ends) if ended <= span.began), len(ends))
        ends[lane : lane + 1] = [span.ended or math.inf]
        times = (_hundredths(moment) for moment in (span.began, span.decoding_since, span.ended))
        rows.append([label(span.number, span.sample), _colour(span), lane, *times, int(span.preempted)])
    return rows


def _hundredths(moment: float) -> int:
    return round(100 * moment)


def _bars(snapshot: KvSnapshot) -> list[list[int]]:
    """For each half second with steps: when, prefill and decode tokens, steps of each kind, largest batch."""
    bars: dict[int, list[int]] = {}
    for bin in snapshot.bins:
        key = int(bin.began / BAR_S)
        bar = bars.setdefault(key, [_hundredths(key * BAR_S), 0, 0, 0, 0, 0])
        bar[1] += bin.prefill_tokens
        bar[2] += bin.decode_tokens
        bar[3] += bin.prefill_steps
        bar[4] += bin.decode_steps
        bar[5] = max(bar[5], bin.batch)
    return list(bars.values())
