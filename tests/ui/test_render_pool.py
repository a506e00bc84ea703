"""The Pool page's words and figures, without a browser."""

import re
from dataclasses import replace

import pytest

from workbench.ui.render import pool, workers
from workbench.values import (
    Departure,
    DeviceSnapshot,
    GivingWay,
    GpuLoad,
    MachineLoad,
    PoolDetails,
    PoolSnapshot,
    Progress,
    RunnerSnapshot,
    TimelineRow,
    TimelineSpan,
    WorkerSnapshot,
)

MB = 10**6
NOW = 10_000.0
RUNNER = RunnerSnapshot(
    "adder", "serving", "cpu", 70 * MB, 0, NOW - 185, None, 0, 3 * MB, 67 * MB, 1024, False, ("w1",)
)
WORKER = WorkerSnapshot("w1", "cpu", "serving", NOW - 200, "adder", 4242, 500 * MB, 0, NOW - 3700, 12, 0)
MACHINE = MachineLoad(2, 5_000 * MB, 16_000 * MB, {"w1": 0.84})


def words(html: str) -> str:
    """What a person reads, each piece set apart."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def devices(*runners, giving=None, machine=MACHINE, **device):
    snapshot = PoolSnapshot(
        runners=runners, devices=(DeviceSnapshot("cpu", "CPU", 700 * MB, 140 * MB, **device),), at=NOW
    )
    details = PoolDetails(machine, {"cpu": giving or GivingWay()}, numbers={"adder": 0, "counter": 9})
    return pool.devices(snapshot, details, [])


@pytest.mark.parametrize(
    ("giving", "says"),
    [
        (
            GivingWay(("adder",), frozenset({"adder"})),
            "adder , unused for 3 min ; it falls asleep when another model needs the room.",
        ),
        (GivingWay(("adder",)), "it is unloaded when another model needs the room."),
        (
            GivingWay(("adder",), stays={"counter": "is pinned"}),
            "needs the room. counter stays: it is pinned.",
        ),
        (
            GivingWay(stays={"adder": "is answering"}),
            "Nothing would give way now. adder stays: it is answering.",
        ),
        (
            GivingWay(("adder",), worker="counter"),
            "No worker is warm: counter would give its own first.",
        ),
    ],
)
def test_who_gives_way_next_and_why(giving, says):
    assert says in words(devices(RUNNER, replace(RUNNER, model="counter"), giving=giving))


def test_the_budget_is_drawn_in_segments_of_weights_and_kv_cache():
    html = devices(RUNNER, replace(RUNNER, model="counter"))
    widths = re.findall(r'<i class="(\w+) (hue-\d)" title="[^"]+" style="width:([\d.]+)%"', html)
    assert widths == [
        ("weights", "hue-0", "0.43"),
        ("kv", "hue-0", "9.57"),
        ("weights", "hue-1", "0.43"),
        ("kv", "hue-1", "9.57"),
    ]
    assert "140 MB of 700 MB · 560 MB free" in words(html)
    assert "5.0 GB of 16.0 GB of memory free" in words(html)
    assert "0.8 of 2" in words(html)


def test_host_memory_and_the_gpu_show_where_there_are_any():
    gpu = replace(MACHINE, gpus={"cpu": GpuLoad(0.4, 60_000 * MB, 140_000 * MB)})
    asleep = replace(RUNNER, state="asleep", device_bytes=0, host_bytes=3 * MB)
    html = words(devices(asleep, machine=gpu, host_budget_bytes=10 * MB, host_used_bytes=3 * MB))
    assert "Host memory for models asleep 3.0 MB of 10.0 MB" in html
    assert "By its driver 60.0 GB of 140 GB free; it computes 40% of the time." in html
    assert "takes no memory of the device" in html
    assert "Host memory" not in words(devices(RUNNER))


@pytest.mark.parametrize(
    ("changes", "of_runner", "says"),
    [
        ({}, {}, "w1 cpu · pid 4242 serving 3 min adder unused for 3 min"),
        ({}, {"in_flight": 2, "idle_since": 0.0}, "adder answers 2 requests"),
        ({}, {"pinned": True}, "adder pinned unused"),
        (
            {"draining": True},
            {"in_flight": 1},
            "draining, serving 3 min adder finishes 1 request, then leaves",
        ),
        ({"state": "sleeping"}, {"state": "sleeping"}, "falling asleep 3 min adder gives its memory up"),
        (
            {"state": "loading"},
            {"state": "loading", "progress": Progress("loading", "Loading adder", MB, 3 * MB)},
            "loading 3 min adder Loading adder 1.0 of 3.0 MB",
        ),
    ],
)
def test_a_card_says_what_its_worker_does(changes, of_runner, says):
    snapshot = PoolSnapshot((replace(WORKER, **changes),), (replace(RUNNER, **of_runner),), at=NOW)
    html = workers.workers(snapshot, PoolDetails(MACHINE))
    assert says in words(html)
    assert "Weights 3.0 MB KV cache 67.0 MB Context 1,024 tokens" in words(html)
    assert "CPU 0.8 of 2 cores Memory 500 MB Swaps 12 Age 1 h 1 min" in words(html)
    assert ("Drain w1" in html) == (not changes.get("draining"))
    assert ("Profile w1" in html) == (of_runner.get("state", RUNNER.state) == "serving")


def test_a_card_without_a_model_says_what_it_is_for():
    warm = replace(WORKER, state="warm", model=None)
    html = workers.workers(PoolSnapshot((warm, replace(warm, state="starting"))), PoolDetails(MACHINE))
    assert "Ready for any model." in words(html)
    assert "before it knows its first model" in words(html)


def test_the_timeline_places_spans_and_says_them():
    rows = (
        TimelineRow(
            "w1",
            "cpu",
            NOW - 900,
            0.0,
            (
                TimelineSpan("adder", "loading", NOW - 660, NOW - 300),
                TimelineSpan("adder", "serving", NOW - 300, NOW - 60),
                TimelineSpan("counter", "asleep", NOW - 60, 0.0),
            ),
        ),
        TimelineRow("w0", "cpu", NOW - 500, NOW - 200, ()),
    )
    html = workers.timeline(PoolDetails(MACHINE, timeline=rows, numbers={"adder": 0, "counter": 1}, at=NOW))
    assert re.findall(r'<i class="([\w -]+)" style="(left[^"]+)"', html) == [
        ("life", "left:0.0%;width:100.0%"),
        ("loading hue-0", "left:0.0%;width:50.0%"),
        ("serving hue-0", "left:50.0%;width:40.0%"),
        ("asleep hue-1", "left:90.0%;width:10.0%"),
        ("life", "left:16.7%;width:50.0%"),
    ]
    assert (
        'aria-label="w1: adder loading for 5 min, adder serving for 4 min, counter asleep for 1 min"' in html
    )
    assert 'aria-label="w0: no model"' in html


def test_workers_that_are_gone_say_why_and_what_they_took_along():
    gone = (
        Departure("w3", "cpu", "adder", 2, "was killed (SIGKILL)", False, NOW - 5),
        Departure("w2", "cpu", "adder", 0, "was drained by an administrator", True, NOW - 65),
        Departure("w1", "cpu", "", 0, "gave no sign of life for 20 s", False, NOW - 600),
    )
    text = words(workers.departures(PoolDetails(MACHINE, departures=gone, at=NOW)))
    assert "w3 died w3 was killed (SIGKILL). 2 requests of adder broke off. 5 s ago Log" in text
    assert "w2 ended w2 was drained by an administrator. It held adder. 1 min ago Log" in text
    assert "w1 died w1 gave no sign of life for 20 s. It held no model. 10 min ago Log" in text
