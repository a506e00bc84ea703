"""Records: kept, told apart by outcome, divided into phases, and found again by the next run."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Request
from workbench.measurements import Measurements, life_of
from workbench.pool.snapshot import SwapRecord
from workbench.telemetry.recorder import ALL_MODELS
from workbench.views import ModelView


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(tmp_path / "workbench.db")
    yield opened
    opened.close()


def request(number: int = 1, **changes) -> Request:
    return Request(
        **{
            "request_id": f"r{number}",
            "model": "adder",
            "received_at": time.time() - 2,
            "accept_s": 0.01,
            "queue_s": 0.1,
            "switch_s": 0.2,
            "ttft_s": 0.5,
            "decode_s": 0.9,
            "first_tokens": 1,
            "longest_gap_s": 0.2,
            "completion_tokens": 10,
            "duration_s": 1.5,
            "finish_reason": "stop",
        }
        | changes
    )


def swap(**changes) -> SwapRecord:
    return SwapRecord(
        **{
            "model": "adder",
            "worker": "w1",
            "device": "cpu",
            "started_at": time.time() - 2,
            "from_residency": "disk",
            "evicted": ("counter",),
            "outcome": "ok",
            "worker_start_s": 14.0,
            "wait_s": 0.1,
            "total_s": 0.5,
        }
        | changes
    )


def view(name: str, residency: str, weight_bytes: int = 10**6) -> ModelView:
    return ModelView(name, "", residency, "", 0, weight_bytes, 0, "", "")


def test_the_phases_of_a_request_are_all_of_its_time():
    life = life_of(request())
    phases = (life.accept_s, life.queue_s, life.switch_s, life.prefill_s, life.decode_s, life.end_s)
    assert phases == pytest.approx((0.01, 0.1, 0.2, 0.19, 0.9, 0.1))
    assert life.tpot_s == pytest.approx(0.1)


def test_a_request_without_a_token_ends_in_the_phase_that_it_came_to():
    waiting = life_of(request(queue_s=1.49, switch_s=0, ttft_s=None, decode_s=None, finish_reason="abort"))
    assert (waiting.outcome, waiting.prefill_s, waiting.decode_s) == ("cancelled", 0.0, 0.0)
    failed = life_of(request(ttft_s=None, decode_s=None, completion_tokens=0, finish_reason="error"))
    assert failed.outcome == "failed"
    assert failed.prefill_s == pytest.approx(1.19)
    assert (failed.ttft_s, failed.tpot_s) == (None, None)


def test_a_request_recorded_before_phases_were_has_what_is_known():
    life = life_of(request(accept_s=0, decode_s=None, first_tokens=0, longest_gap_s=None))
    assert (life.decode_s, life.end_s) == (pytest.approx(1.0), 0.0)
    assert life.tpot_s is None


async def test_failed_and_stopped_requests_are_counted_and_not_measured(catalog: Catalog):
    measured = Measurements(catalog)
    for number, finish in enumerate(["stop", "length", "abort", "error"]):
        await measured.record_request(request(number, finish_reason=finish))
    picture = measured.picture(ALL_MODELS, "5m")
    counts = picture.counts
    assert (counts.ok, counts.cancelled, counts.failed) == (2, 1, 1)
    assert {spread.count for time, spread in picture.spreads.items() if time != "switch"} == {2}
    assert [life.outcome for life in measured.requests(ALL_MODELS, 3)] == ["failed", "cancelled", "ok"]
    assert len(catalog.recent_requests()) == 4


async def test_only_complete_answers_tell_how_long_the_next_one_is(catalog: Catalog):
    measurements = Measurements(catalog)
    await measurements.record_request(request(1, completion_tokens=30))
    await measurements.record_request(request(2, completion_tokens=2, finish_reason="abort"))
    await measurements.record_request(request(3, completion_tokens=0, finish_reason="error", error="!"))
    assert measurements.expected_tokens("adder", 40, None) == 40
    after_a_restart = Measurements(catalog)
    await after_a_restart.start()
    assert after_a_restart.expected_tokens("adder", 40, None) == 40
    await after_a_restart.close()


async def test_the_next_run_knows_what_was_recorded(catalog: Catalog):
    first = Measurements(catalog)
    await first.record_request(request(1))
    await first.record_request(request(2, received_at=time.time() - 7200))
    await first.record_request(request(3, model="counter", finish_reason="error"))
    first.record_swap(swap())
    first.record_swap(swap(outcome="failed", error="no memory"))
    await first.close()

    second = Measurements(catalog)
    await second.start()
    await second.record_request(request(4, received_at=time.time()))
    await second.close()
    picture = second.picture(ALL_MODELS, "24h")
    assert second.past_read
    assert (picture.counts.ok, picture.counts.failed) == (3, 1)
    assert picture.counts.tokens == 30, "those of the last request are counted as they come"
    assert picture.spreads["ttft"].count == 3
    assert picture.spreads["switch"].count == 1
    assert [life.id for life in second.requests(ALL_MODELS, 10)] == ["r4", "r3", "r1", "r2"]
    assert [(s.record.outcome, s.record.evicted) for s in second.switches(ALL_MODELS, 10)] == [
        ("failed", ("counter",)),
        ("ok", ("counter",)),
    ]
    assert second.picture("counter", "24h").counts.failed == 1
    assert second.picture("adder", "5m").counts.ok == 2
    assert second.switch_estimates([view("adder", "disk")]) == {"adder": 0.5}


async def test_more_than_can_be_read_is_cut_and_said(catalog: Catalog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.measurements.MOST_PAST", 2)
    began = time.time() - 100
    for number in range(3):
        catalog.record_request(request(number, received_at=began + number))
    measured = Measurements(catalog)
    await measured.start()
    await measured.close()
    assert measured.picture(ALL_MODELS, "1h").counts.ok == 2
    assert measured.past_since == began + 1


async def test_a_cold_start_is_the_workers_own_start_and_a_load(catalog: Catalog):
    measured = Measurements(catalog)
    measured.record_swap(swap(woken=True, total_s=0.02))
    measured.record_swap(swap())
    measured.record_swap(swap(woken=True, total_s=0.01))
    measured.record_swap(swap(outcome="cancelled"))
    measured.record_swap(swap(worker_start_s=0.0))
    await measured.close()
    switches = measured.switches(ALL_MODELS, 10)
    assert [(s.cold_start_s, s.cold_load_s and round(s.cold_load_s, 3)) for s in switches] == [
        (None, None),
        (None, None),
        (14.0, 0.5),
        (14.0, 0.4),
        (14.0, 0.5),
    ]


async def test_a_switch_is_estimated_from_where_the_model_is(catalog: Catalog):
    measured = Measurements(catalog)
    measured.record_swap(swap())
    measured.record_swap(swap(woken=True, total_s=0.02))
    measured.record_swap(swap(outcome="failed", total_s=9.0))
    await measured.close()
    residencies = ["disk", "unloading", "asleep", "sleeping", "device", "loading", "waking", "hub", "broken"]
    assert {
        where: measured.switch_estimates([view("adder", where)]).get("adder") for where in residencies
    } == {
        **dict.fromkeys(residencies),
        "disk": 0.5,
        "unloading": 0.5,
        "asleep": 0.02,
        "sleeping": 0.02,
    }
    assert measured.switch_estimates([view("adder", "device"), view("new", "disk")]) == {"new": 0.5}
