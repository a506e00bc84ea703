"""What paging saves, counted by hand."""

from tests.made_up_kv import ATTENTION, request, snapshot
from workbench.engine.kv_cache import Allocation, KvGroup


def test_a_shared_prefix_is_stored_once_and_only_ends_of_last_blocks_are_wasted():
    # 16 tokens a block: a common block, then 8 tokens of 16, and 24 of 32.
    one = request(1, [5, 6], prompt=20, output=5)
    other = request(2, [5, 7, 8], prompt=40, output=1)
    pool = snapshot(101, [one, other])
    held = 4 * 16
    assert pool.paged == Allocation(
        tokens=held,
        used_tokens=16 + 8 + 24,
        bytes=4 * 16_000,
        used_bytes=48_000,
        fits_more=96 // 2,  # two blocks each on average
    )
    assert pool.paged.wasted_tokens == 8 + 8
    assert pool.contiguous == Allocation(
        tokens=2 * 64,
        used_tokens=24 + 40,
        bytes=2 * 4 * 16_000,
        used_bytes=64_000,
        fits_more=100 // 4 - 2,
    )


def test_an_idle_pool_fits_requests_of_full_length():
    pool = snapshot(101)
    assert (pool.paged.bytes, pool.paged.fits_more) == (0, 25)
    assert (pool.contiguous.bytes, pool.contiguous.fits_more) == (0, 25)


def test_requests_that_contiguous_memory_could_not_hold():
    pool = snapshot(9, [request(n, [n], prompt=8, output=1) for n in range(1, 7)])
    assert pool.paged.fits_more == 2
    assert pool.contiguous.fits_more == 2 - 6


def test_blocks_that_are_reserved_ahead_are_wasted():
    pool = snapshot(101, [request(1, [1, 2, 3], prompt=16, output=1)])
    assert (pool.paged.tokens, pool.paged.used_tokens) == (48, 16)


def test_a_window_leaves_placeholders_and_a_state_takes_a_block():
    window = KvGroup("sliding_window", 4, 16, 32)
    state = KvGroup("mamba", 4, 16, 0)
    one = request(1, [1, 2, 3, 4], [0, 0, 5, 6], [7], prompt=60, output=1)
    pool = snapshot(101, [one], groups=(ATTENTION, window, state))
    assert pool.main_group == 0
    assert (pool.paged.tokens, pool.paged.used_tokens) == (64, 60)
    assert pool.paged.bytes == 7 * 16_000
    assert pool.paged.used_bytes == (60 + 28 + 16) * 1000
    assert pool.contiguous.bytes == (4 + 2 + 1) * 16_000


def test_a_model_without_attention_has_no_tokens_to_count():
    state = KvGroup("mamba", 4, 16, 0)
    pool = snapshot(11, [request(1, [3])], groups=(state,))
    assert pool.main_group is None
    assert (pool.paged.tokens, pool.paged.bytes, pool.paged.fits_more) == (0, 16_000, 9)
