"""What an engine's KV cache holds at one moment: plain values that cross from the worker to the app.

Free of vLLM, so that the page can read them. Times are seconds of the system's monotonic clock, which all
processes of a machine share. "Computed" tokens are those whose keys and values are in the cache.
"""

import math
from array import array
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

TABLE_ITEM = "I"
"""Type code of block numbers in a packed block table: 4 bytes each."""
ATTENTION = ("full_attention", "mla_attention", "sink_full_attention")
WINDOWED = ("sliding_window", "sliding_window_mla", "chunked_local_attention")
"""Kinds of groups whose blocks hold tokens in order; of other kinds, each block holds one state."""


class BlockState(IntEnum):
    """What a physical block is used for."""

    NULL = 0
    """vLLM's placeholder, block 0: stands in block tables for what a window has left behind."""
    FREE = 1
    KEPT = 2
    """Free to be taken, but full of tokens that a request with the same prefix may reuse until then."""
    USED = 3
    """In one block table."""
    SHARED = 4
    """In several block tables."""


@dataclass(frozen=True, slots=True)
class KvGroup:
    """Layers that share block tables. Most models have one group; hybrid ones have several."""

    kind: str
    """vLLM's name: "full_attention", "sliding_window", "mamba", …"""
    layers: int
    block_tokens: int
    window: int
    """Tokens that sliding attention looks back; 0 for all."""

    @property
    def holds_tokens(self) -> bool:
        return self.kind in ATTENTION or self.kind in WINDOWED

    def reserved_blocks(self, tokens: int) -> int:
        """Blocks that a request of so many tokens takes here."""
        if not self.holds_tokens:
            return 1
        return math.ceil((min(tokens, self.window) if self.window else tokens) / self.block_tokens)


@dataclass(frozen=True, slots=True)
class KvRequest:
    """A request that holds blocks. With `n` samples, each sample is a request of the engine."""

    number: int
    """Counted since the model was loaded, in the order in which requests joined the batch."""
    sample: int
    """1 to n among those that share a number; 0 for a request without siblings."""
    id: str
    """The engine's name for it, part of which a client may have chosen."""
    running: bool
    """In the batch; else it waits, or its blocks are about to be freed."""
    prompt_tokens: int
    output_tokens: int
    computed_tokens: int
    reused_tokens: int
    """Tokens that it found in the prefix cache when it joined the batch."""
    tables: tuple[bytes, ...]
    """Its block table in each group, packed: physical block by logical block."""

    @property
    def prefilling(self) -> bool:
        return self.computed_tokens < self.prompt_tokens

    def table(self, group: int) -> "array[int]":
        """The block table of a group, unpacked."""
        return array(TABLE_ITEM, self.tables[group])


@dataclass(frozen=True, slots=True)
class Span:
    """A stay of a request in the batch."""

    number: int
    sample: int
    began: float
    decoding_since: float
    """End of the step that computed the last token of its prompt; 0 before."""
    ended: float
    """0 while it is in the batch."""
    preempted: bool
    """Whether it lost its blocks and has to come again, rather than being done."""


@dataclass(frozen=True, slots=True)
class StepBin:
    """The engine steps that ended within a quarter of a second."""

    began: float
    steps: int
    prefill_steps: int
    """Steps that computed prompt tokens."""
    decode_steps: int
    """Steps that computed a next token; a step may do both."""
    prefill_tokens: int
    decode_tokens: int
    batch: int
    """Requests in the largest batch."""


@dataclass(frozen=True)
class KvSnapshot:
    """A KV cache between two engine steps."""

    taken_at: float
    took_s: float
    """Time that it kept the engine from its next step."""
    states: bytes
    """A `BlockState` for each physical block."""
    block_bytes: int
    groups: tuple[KvGroup, ...]
    requests: tuple[KvRequest, ...]
    """Those that hold blocks, in the order of the batch."""
    running: int
    waiting: int
    max_running: int
    """Requests that the batch takes at most."""
    context_length: int
    """Tokens of the longest request."""
    caching: bool
    """Whether prefixes are reused."""
    usage: float
    """Share of blocks in use, as the engine counts it."""
    prefix_queries: int
    """Tokens looked up in the prefix cache since the model was loaded."""
    prefix_hits: int
    preemptions: int
    """Since the model was loaded."""
    bins: tuple[StepBin, ...] = ()
    """The last minute; seconds without a step have none."""
    spans: tuple[Span, ...] = ()
    """Stays in the batch that touch the last minute, in the order in which they began."""

    def count(self, state: BlockState) -> int:
        """Blocks in a state."""
        return self.states.count(state)

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can take."""
        return len(self.states) - self.count(BlockState.NULL)

    @property
    def used_blocks(self) -> int:
        """Blocks in block tables."""
        return self.count(BlockState.USED) + self.count(BlockState.SHARED)

    @property
    def main_group(self) -> int | None:
        """The group whose tokens are counted: the first of full attention, or else the first with tokens."""
        kinds = [group.kind for group in self.groups]
        return next((kinds.index(kind) for kind in (*ATTENTION, *WINDOWED) if kind in kinds), None)

    @cached_property
    def paged(self) -> "Allocation":
        """What the requests hold now, block by block; shared blocks count once."""
        held, used_bytes, used_tokens, held_tokens = 0, 0.0, 0, 0
        for index, group in enumerate(self.groups):
            blocks, filled = self._filled(index)
            held += blocks
            used_bytes += filled * self.block_bytes / group.block_tokens
            if index == self.main_group:
                held_tokens, used_tokens = blocks * group.block_tokens, filled
        available = self.usable_blocks - self.used_blocks
        if self.requests and held:
            more = available * len(self.requests) // held
        else:
            more = available // max(1, self._longest_blocks())
        return Allocation(held_tokens, used_tokens, held * self.block_bytes, round(used_bytes), more)

    @cached_property
    def contiguous(self) -> "Allocation":
        """The same requests if each had room for the longest one, in one piece and for itself alone.

        What serving systems did before paged attention (Kwon et al. 2023, https://arxiv.org/abs/2309.06180).
        """
        each_bytes = self._longest_blocks() * self.block_bytes
        used_bytes, used_tokens = 0.0, 0
        for index, group in enumerate(self.groups):
            for request in self.requests:
                filled = _filled_tokens(group, request.computed_tokens)
                used_bytes += filled * self.block_bytes / group.block_tokens
                used_tokens += filled if index == self.main_group else 0
        count = len(self.requests)
        fitting = self.usable_blocks * self.block_bytes // each_bytes if each_bytes else 0
        tokens = count * self.context_length if self.main_group is not None else 0
        return Allocation(tokens, used_tokens, count * each_bytes, round(used_bytes), fitting - count)

    def _longest_blocks(self) -> int:
        return sum(group.reserved_blocks(self.context_length) for group in self.groups)

    def _filled(self, index: int) -> tuple[int, int]:
        """Distinct blocks that requests hold in a group, and the tokens in them."""
        group = self.groups[index]
        held: set[int] = set()
        full: set[int] = set()
        partial: dict[int, int] = {}
        for request in self.requests:
            table = request.table(index)
            held.update(table)
            if group.holds_tokens:
                whole, rest = divmod(request.computed_tokens, group.block_tokens)
                full.update(table[:whole])
                if rest and whole < len(table):
                    partial[table[whole]] = max(rest, partial.get(table[whole], 0))
        held.discard(0)
        full.discard(0)
        if not group.holds_tokens:
            return len(held), len(held) * group.block_tokens
        rest = sum(tokens for block, tokens in partial.items() if block and block not in full)
        return len(held), len(full) * group.block_tokens + rest


def _filled_tokens(group: KvGroup, computed: int) -> int:
    if not group.holds_tokens:
        return group.block_tokens
    return min(computed, group.window) if group.window else computed


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one way of allocating gives the present requests. Tokens are those of the main group."""

    tokens: int
    used_tokens: int
    bytes: int
    used_bytes: int
    fits_more: int
    """Further requests that fit: such as these on average, or of full length where there are none.
    Negative if these would not fit themselves."""

    @property
    def wasted_tokens(self) -> int:
        return self.tokens - self.used_tokens

    @property
    def wasted_bytes(self) -> int:
        return self.bytes - self.used_bytes
