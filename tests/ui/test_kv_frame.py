"""The KV cache page's data: what is told of small, large and full pools, and that frames stay small."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.made_up_kv import busy, full, request, snapshot
from workbench.engine.kv_cache import KvSnapshot, Span
from workbench.ui import ids
from workbench.ui.render import kv, kv_frame
from workbench.values import KvCacheView, PoolSnapshot


def model(pool: KvSnapshot, detail: kv_frame.Detail | None = None) -> dict:
    return kv_frame._model("storyteller", pool, detail or kv_frame.Detail())


def frame(*pools: KvSnapshot) -> dict:
    views = [KvCacheView(f"model-{number}", pool) for number, pool in enumerate(pools)]
    return kv_frame.frame({ids.STATUS: "x" * 400}, PoolSnapshot(), views)


def sent(told: dict) -> bytes:
    """As the event stream sends it."""
    return b"event: frame\ndata: " + json.dumps({"server": "f" * 32, **told}, separators=(",", ":")).encode()


def read_table(text: str) -> list[int]:
    """As the script does."""
    blocks: list[int] = []
    for word in text.split():
        if word.startswith("~"):
            blocks += [-1] * int(word[1:])
        elif "x" in word:
            blocks += [0] * int(word.split("x")[1])
        else:
            first, _, last = word.partition("-")
            blocks += range(int(first), int(last or first) + 1)
    return blocks


def test_a_small_pool_is_told_block_by_block():
    pool = snapshot(12, [request(1, [1, 2]), request(2, [1, 3])], kept=[5])
    assert model(pool)["map"] == {"parts": [[0, "nsuu.k......"]]}


def test_of_a_large_pool_the_parts_with_something_in_them_are_told_beside_a_strip_of_the_whole():
    pool = snapshot(10_000, [request(1, [1, 4000, 4001, 9999])])
    told = model(pool)["map"]
    assert [[start, len(letters)] for start, letters in told["parts"]] == [[0, 128], [4000, 8], [9992, 8]]
    assert told["parts"][1][1] == "uu......"
    assert sum(told["strip"]["used"]) == 4
    assert len(told["strip"]["used"]) == -(-10_000 // told["strip"]["per"]) <= kv_frame.STRIP_COLUMNS


def test_a_large_pool_in_full_use_is_told_in_cells():
    halves = [request(1, range(1, 50_000)), request(2, range(50_000, 100_000))]
    told = model(snapshot(100_000, halves))["map"]["cells"]
    assert len(told["used"]) <= kv_frame.MAX_GROUPED_CELLS
    assert sum(told["used"]) == 99_999
    assert {len(told[name]) for name in ("used", "shared", "kept", "owners")} == {len(told["used"])}
    assert told["owners"] == sorted(told["owners"])
    assert Counter(told["owners"]) == {1: 510, 2: 511}


def test_a_cell_that_nobody_has_most_of_has_no_owner():
    assert set(model(full(100_000, requests=8))["map"]["cells"]["owners"]) == {-1}


@pytest.mark.parametrize("requests", [1, 8, 256, 2000])
def test_a_frame_of_100_000_blocks_is_at_most_64_kib(requests):
    assert len(sent(frame(full(100_000, requests)))) <= 65_536


def test_several_large_pools_share_a_frame():
    told = frame(*[full(100_000, 64)] * 9)
    assert len(sent(told)) <= 65_536
    assert [one["name"] for one in told["data"]["models"]] == [f"model-{n}" for n in range(kv.SHOWN_MODELS)]
    assert "3 more models served" in told["html"][ids.KV]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ([], ""),
        ([7], "7"),
        ([17, 18, 19, 31], "17-19 31"),
        ([0, 0, 0, 1, 2], "0x3 1-2"),
        ([0, 5, 0], "0 5 0"),
        ([3, 2, 1], "3 2 1"),
    ],
)
def test_block_tables_in_few_characters(table, text):
    assert kv_frame.table_text(table, 1000) == text
    assert read_table(text) == table


def test_of_a_long_block_table_the_middle_is_left_out():
    table = list(range(1, 4001, 2))
    text = kv_frame.table_text(table, 60)
    told = read_table(text)
    assert len(text) <= 60 + len(" ~1900")
    assert len(told) == len(table)
    assert [(one, real) for one, real in zip(told, table, strict=True) if one not in (-1, real)] == []
    assert told[0] == 1
    assert told[-1] == table[-1]


def test_a_request_is_told_with_its_tokens_and_shared_prefix():
    pool = snapshot(40, [request(7, [1, 2, 5], sample=2, reused_tokens=32), request(8, [1, 2, 6])])
    row = model(pool)["requests"][0]
    assert row == ["7·2", "request-7", 0, 1, 20, 5, 24, 32, 2, ["1-2 5"]]


def test_stays_that_overlap_are_in_lanes_of_their_own():
    spans = [
        Span(1, 0, 1.0, 1.1, 2.0, False),
        Span(2, 0, 1.5, 0.0, 0.0, False),
        Span(3, 0, 2.0, 2.1, 3.0, True),
    ]
    assert [row[2:] for row in kv_frame._spans(spans)] == [
        [0, 100, 110, 200, 0],
        [1, 150, 0, 0, 0],
        [0, 200, 210, 300, 1],
    ]


def test_an_idle_engine_makes_no_new_frames():
    pool = snapshot(340)
    assert frame(pool) == frame(replace(pool, taken_at=pool.taken_at + 5, took_s=0.002))


def test_the_words_agree_with_the_picture():
    pool = busy()
    letters = "".join(letters for _, letters in model(pool)["map"]["parts"])
    assert kv.summary(pool) == (
        f"{letters.count('u') + letters.count('s')} blocks in use by 8 requests, "
        f"{letters.count('s')} of them shared; 12 kept for reuse; {letters.count('.')} free."
    )
    assert letters.count("s") == 2
