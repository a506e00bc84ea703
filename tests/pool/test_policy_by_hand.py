"""The policy with made-up views, where people have pinned models or drain workers."""

from dataclasses import replace

import pytest

from tests.pool.made_up import FAIRNESS, asleep, device, serving, view, waiter, worker
from workbench.pool.policy import Load, RunnerView, decide

GIB = 1 << 30


def kept(runner):
    return replace(runner, kept=True)


def draining(thing):
    return replace(thing, draining=True)


def test_13_another_model_gives_way_for_one_that_is_pinned():
    runners = [kept(serving("old", last_used=1)), serving("new", last_used=9)]
    workers = [worker("w1", "taken"), worker("w2", "taken"), worker("w3")]
    assert decide(view(workers=workers, runners=runners, waiters=[waiter(1, "c")])).evictions == {"new": "c"}


@pytest.mark.parametrize("waited", [0, FAIRNESS + 1])
@pytest.mark.parametrize("state", ["loading", "serving", "waking"])
def test_13_a_model_that_fits_only_in_the_place_of_a_pinned_one_is_refused(state, waited):
    runner = RunnerView("a", "cpu", state, 2 * GIB, kept=True)
    waiters = [waiter(1, "b", 3 * GIB, waited)]
    plan = decide(view([device(4 * GIB)], [worker("w1", "taken"), worker("w2")], [runner], waiters))
    assert plan.refusals[1] == (
        "b needs 3.00 GiB, but a is pinned, which leaves 2.00 GiB. "
        "Unpin or unload it on the Pool page, then ask again."
    )
    assert (plan.evictions, plan.sleeps, plan.loads) == ({}, (), ())


def test_13_pinned_models_that_hold_all_workers_are_named_too():
    runners = [kept(serving("a", 10)), kept(asleep("b"))]
    devices = [device(max_workers=2, host_budget=100)]
    workers = [worker("w1", "taken"), worker("w2", "taken")]
    refusal = decide(view(devices, workers, runners, [waiter(1, "c", 10)])).refusals[1]
    assert refusal.startswith(
        "c needs a worker, but a and b are pinned, which leaves none. Unpin or unload one"
    )


def test_13_a_busy_model_is_waited_for_where_that_helps_and_a_pinned_one_stays_open():
    runners = [kept(serving("a", 30, in_flight=1)), serving("b", 40, in_flight=1)]
    workers = [worker("w1", "taken"), worker("w2", "taken"), worker("w3")]
    waiters = [waiter(1, "c", 60, FAIRNESS + 1), waiter(2, "a"), waiter(3, "b")]
    plan = decide(view(workers=workers, runners=runners, waiters=waiters))
    assert plan.grants == (2,)
    assert plan.progress[1].detail == "Waiting for b to finish answering"


def test_13_a_pinned_model_never_sleeps_gives_no_worker_and_no_claim():
    devices = [device(100, max_workers=3, spares=1, host_budget=40)]
    runners = [kept(asleep("a", last_used=1)), replace(serving("b", last_used=9), slept_at=5)]
    workers = [worker("w1", "taken"), worker("w2", "taken"), worker("w3", "taken")]
    plan = decide(view(devices, workers, [*runners, kept(serving("c", 20))]))
    assert (plan.evictions, plan.sleeps, plan.pins) == ({}, (), ())


def test_13_a_pinned_model_is_loaded_though_nobody_waits_any_more():
    loading = RunnerView("a", "cpu", "loading", 40, kept=True)
    assert decide(view(workers=[worker("w1", "taken")], runners=[loading])).evictions == {}


def test_13_a_pinned_model_that_sleeps_is_woken_by_others_giving_way():
    runners = [kept(asleep("a")), serving("b", 80)]
    plan = decide(view([device(host_budget=100)], [worker("w1", "taken"), worker("w2", "taken")], runners,
                       [waiter(1, "a")]))  # fmt: skip
    assert [sleep.model for sleep in plan.sleeps] == ["b"]


def test_13_one_asleep_whose_place_is_taken_by_a_pinned_model_is_refused_or_moves():
    gpus = [device(name="cuda:0", host_budget=100), device(name="cuda:1", host_budget=100)]
    runners = [kept(serving("a", 80, on="cuda:0")), asleep("b", on="cuda:0")]
    workers = [worker("w1", "taken", on="cuda:0"), worker("w2", "taken", on="cuda:0")]
    asked = [waiter(1, "b")]
    assert "a is pinned" in decide(view(gpus[:1], workers, runners, asked)).refusals[1]
    plan = decide(view(gpus, [*workers, worker("w3", on="cuda:1")], runners, asked))
    assert plan.evictions == {"b": "b"}
    plan = decide(
        view(gpus, [worker("w1", "taken", on="cuda:0"), worker("w3", on="cuda:1")], runners[:1], asked)
    )
    assert plan.loads == (Load("b", "cuda:1", ("w3",)),)


def test_14_a_worker_that_drains_takes_no_model_and_ends():
    workers = [draining(worker("w1")), draining(worker("w2", "coming")), draining(worker("w3", "starting"))]
    plan = decide(view([device(max_workers=4)], [*workers, worker("w4")], waiters=[waiter(1, "a")]))
    assert plan.stops == ("w1", "w2", "w3")
    assert plan.loads == (Load("a", "cpu", ("w4",)),)


def test_14_a_worker_that_drains_is_no_spare():
    assert decide(view([device(spares=1)], [draining(worker("w1"))])).starts == ("cpu",)
    leaving = draining(RunnerView("a", "cpu", "unloading", 40))
    assert decide(view([device(spares=1)], [draining(worker("w1", "taken"))], [leaving])).starts == ("cpu",)


def test_14_what_is_in_flight_is_finished_and_newcomers_wait():
    workers = [draining(worker("w1", "taken")), worker("w2")]
    runner = draining(serving("a", in_flight=2))
    plan = decide(view(workers=workers, runners=[runner], waiters=[waiter(1, "a")]))
    assert (plan.evictions, plan.grants, plan.stops) == ({}, (), ())
    assert plan.progress[1].detail == "Waiting for 2 answers of a to end: its worker is being drained"


@pytest.mark.parametrize("state", ["loading", "serving", "asleep", "waking"])
@pytest.mark.parametrize("pinned", [False, True])
def test_14_the_model_is_given_back_for_those_that_wait_and_pinned_or_not(state, pinned):
    workers = [draining(worker("w1", "taken")), worker("w2")]
    runner = RunnerView("a", "cpu", state, 40, kept=pinned, draining=True)
    plan = decide(view([device(host_budget=50)], workers, [runner], [waiter(1, "a")]))
    assert plan.evictions == {"a": ""}
    assert (plan.grants, plan.loads, plan.wakes, plan.refusals) == ((), (), (), {})
    assert plan.progress[1].detail == "Waiting until the worker that is being drained gives a back"


def test_14_a_pinned_model_on_a_draining_worker_is_in_nobodys_way():
    workers = [draining(worker("w1", "taken")), worker("w2")]
    runner = draining(kept(serving("a", 80, in_flight=1)))
    plan = decide(view(workers=workers, runners=[runner], waiters=[waiter(1, "b")]))
    assert plan.refusals == {}
