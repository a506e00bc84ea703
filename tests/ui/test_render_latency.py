"""The Latency page: what its script is given, and the waterfall of switches."""

import json
import re
import time
from dataclasses import replace

import pytest

from tests.ui.fake_workbench import MODELS, FakeWorkbench
from workbench.catalog.tables import Request
from workbench.ui.render import latency
from workbench.ui.render.live import sources
from workbench.values import SwapRecord, SwitchView

LOAD = SwapRecord(
    "adder",
    "w1",
    "cpu",
    started_at=1.0,
    from_residency="disk",
    evicted=("counter",),
    outcome="ok",
    worker_start_s=14.0,
    wait_s=0.02,
    create_s=0.06,
    weights_s=0.02,
    total_s=0.1,
)
WAKE = replace(
    LOAD, from_residency="host", woken=True, create_s=0.0, weights_s=0.01, total_s=0.03, evicted=()
)


def told(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def widths(html: str) -> list[float]:
    return [float(width) for width in re.findall(r"width:([\d.]+)%", html)]


@pytest.mark.parametrize(
    ("choice", "understood"),
    [
        ("", ("1h", "")),
        ("5m:adder", ("5m", "adder")),
        ("24h:", ("24h", "")),
        ("1y:adder", ("1h", "adder")),
        ("5m:gone", ("5m", "")),
        ("<script>:<script>", ("1h", "")),
    ],
)
def test_a_choice_is_one_of_few(choice, understood):
    assert latency.choose(choice, MODELS) == understood


def test_pages_with_the_same_choice_share_their_frames():
    source = sources(FakeWorkbench())["latency"]
    assert source.choose is not None
    assert source.choose("")[0] == source.choose("1h:nobody")[0] == "1h:"
    assert source.choose("5m:adder")[0] == "5m:adder"


async def test_the_frame_has_what_the_model_did():
    workbench = FakeWorkbench()
    for number in range(3):
        await workbench.measurements.record_request(
            Request(
                request_id=f"r{number}",
                model="adder",
                received_at=time.time(),
                ttft_s=0.1,
                decode_s=0.5,
                first_tokens=1,
                completion_tokens=11,
                duration_s=0.6,
                finish_reason=["stop", "stop", "error"][number],
            )
        )
    source = sources(workbench)["latency"]
    for choice, count in (("5m:adder", 2), ("24h:", 2), ("5m:storyteller", 0)):
        frame = await source.choose(choice)[1](workbench.pool(), workbench.models)
        data = frame["data"]
        assert data["spreads"]["ttft"]["count"] == count
        assert data["counts"]["failed"] == bool(count)
        assert len(data["requests"]) == (3 if count else 0)
        if count:
            assert data["spreads"]["tpot"]["p50"] == pytest.approx(0.05, rel=0.006)
            assert data["spreads"]["tpot"]["p95"] is None
            assert data["curves"]["ttft"][-1] == pytest.approx([0.1, 0.1], rel=0.006)
            assert sum(data["requests"][0]["phases"]) == pytest.approx(0.6)
        assert len(json.dumps(frame)) < 16_384


def test_a_load_is_told_phase_by_phase_with_a_cold_start_beside_it():
    text = told(latency.switches([SwitchView(LOAD, 14.0, 0.08)]))
    assert "from disk, evicting counter" in text
    assert "wait 20 ms · create engine 60 ms · weights 20 ms" in text
    assert "attach" not in text.split("A cold start")[1].split("Attach")[1], (
        "phases that took nothing are left out"
    )
    assert "0.10 s cold start 14 s" in text
    assert "141 times as long" in text


def test_a_wake_is_told_as_one():
    text = told(latency.switches([SwitchView(WAKE, 14.0, 0.08)]))
    assert "asleep wait 20 ms · wake 10 ms" in text
    from_disk = SwitchView(replace(WAKE, from_residency="disk"), None, None)
    text = told(latency.switches([from_disk]))
    assert "asleep, weights from disk" in text
    assert "cold start not known" in text
    assert "measured here" not in text, "and no cold start is made up"


def test_a_switch_that_failed_or_was_cancelled_says_so():
    failed = replace(
        LOAD, outcome="failed", error="adder can't be loaded: no memory.", create_s=0.0, weights_s=0.0
    )
    html = latency.switches(
        [SwitchView(failed, None, None), SwitchView(replace(failed, outcome="cancelled"), None, None)]
    )
    assert "Failed. adder can&#x27;t be loaded: no memory." in html
    assert "Cancelled before it served." in html
    assert told(html).count("wait 20 ms · then 80 ms") == 2


def test_bars_have_one_scale_and_a_very_long_one_is_torn():
    slow = replace(LOAD, total_s=9.0, wait_s=8.92)
    html = latency.switches([SwitchView(record, None, None) for record in (LOAD, LOAD, slow)])
    assert widths(html) == pytest.approx([5, 15, 5] * 2 + [100])
    assert html.count("torn") == 1


def test_without_a_switch_the_page_says_what_would_make_one():
    assert "No switch yet" in latency.switches([])
