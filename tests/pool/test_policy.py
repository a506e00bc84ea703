"""The policy with made-up views, on devices that cannot sleep."""

import pytest

from tests.pool.made_up import FAIRNESS, device, serving, view, waiter, worker
from workbench.pool.policy import CHEAP_LOAD_S, Load, RunnerView, decide


def test_1_a_serving_model_goes_ahead_for_everybody():
    plan = decide(
        view(
            workers=[worker("w1", "taken")], runners=[serving("a")], waiters=[waiter(1, "a"), waiter(2, "a")]
        )
    )
    assert plan.grants == (1, 2)


def test_2_a_second_request_joins_the_load():
    loading = RunnerView("a", "cpu", "loading", 40)
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2")],
            runners=[loading],
            waiters=[waiter(1, "a"), waiter(2, "a")],
        )
    )
    assert plan.loads == ()
    assert plan.evictions == {}
    assert plan.progress[2].stage == "loading"


def test_two_requests_for_one_model_start_one_load():
    plan = decide(view(workers=[worker("w1"), worker("w2")], waiters=[waiter(1, "a"), waiter(2, "a")]))
    assert plan.loads == (Load("a", "cpu", ("w1",)),)


def test_3_a_model_on_its_way_out_is_waited_for():
    leaving = RunnerView("a", "cpu", "unloading", 40)
    plan = decide(
        view(workers=[worker("w1", "taken"), worker("w2")], runners=[leaving], waiters=[waiter(1, "a")])
    )
    assert plan.loads == ()
    assert plan.progress[1].stage == "evicting"


def test_4_a_model_that_can_never_fit_is_refused_with_the_numbers():
    plan = decide(
        view(devices=[device(1 << 30)], workers=[worker("w1")], waiters=[waiter(1, "big", size=3 << 30)])
    )
    assert "3.00 GiB" in plan.refusals[1]
    assert "1.00 GiB" in plan.refusals[1]
    assert plan.evictions == {}


@pytest.mark.parametrize(
    ("workers", "chosen"),
    [
        ([worker("w1", had="b"), worker("w2", had="a")], "w2"),
        ([worker("w1", had="ab"), worker("w2", had="ba")], "w2"),
        ([worker("w1", had="bc"), worker("w2"), worker("w3", had="b")], "w2"),
        ([worker("w1"), worker("w2", "coming", had="a")], "w1"),
    ],
    ids=["had it", "had it last", "had the fewest", "warm first of all"],
)
def test_5_a_model_goes_where_its_weights_are_mapped(workers, chosen):
    plan = decide(view(workers=workers, waiters=[waiter(1, "a")]))
    assert plan.loads == (Load("a", "cpu", (chosen,)),)


def test_5_models_serve_side_by_side_while_they_fit():
    plan = decide(
        view(workers=[worker("w1", "taken"), worker("w2")], runners=[serving("a")], waiters=[waiter(1, "b")])
    )
    assert plan.loads == (Load("b", "cpu", ("w2",)),)
    assert plan.evictions == {}


def test_6_the_least_recently_used_idle_model_goes_first_and_no_more_than_needed():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2", "taken"), worker("w3")],
            runners=[serving("new", last_used=9), serving("old", last_used=1)],
            waiters=[waiter(1, "c")],
        )
    )
    assert plan.evictions == {"old": "c"}
    assert plan.progress[1].detail == "Evicting old"


def test_6_an_eviction_under_way_is_counted_not_repeated():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2", "taken"), worker("w3")],
            runners=[RunnerView("old", "cpu", "unloading", 40), serving("new")],
            waiters=[waiter(1, "c")],
        )
    )
    assert plan.evictions == {}
    assert plan.loads == ()


def test_6_a_full_pool_of_workers_evicts_for_a_worker_though_memory_is_free():
    plan = decide(
        view(
            devices=[device(max_workers=1)],
            workers=[worker("w1", "taken")],
            runners=[serving("a", 10)],
            waiters=[waiter(1, "b", 10)],
        )
    )
    assert plan.evictions == {"a": "b"}


@pytest.mark.parametrize(
    ("others", "starts"),
    [((), ("cpu",)), ([worker("w3", "starting")], ())],
    ids=["none starts", "one starts"],
)
def test_7_an_idle_model_gives_its_worker_though_one_starts(others, starts):
    plan = decide(
        view(
            [device(spares=1, max_workers=4)],
            workers=[worker("w1", "taken"), worker("w2", "taken"), *others],
            runners=[serving("new", 10, last_used=2), serving("old", 10, last_used=1)],
            waiters=[waiter(1, "b", 10)],
        )
    )
    assert (plan.evictions, plan.starts) == ({"old": "b"}, starts)


LONG_LOAD = CHEAP_LOAD_S + 1


@pytest.mark.parametrize("others", [(), [worker("w3", "starting")]], ids=["none starts", "one starts"])
def test_7_a_model_whose_load_was_long_keeps_its_worker_where_one_can_start(others):
    runners = [serving("long", 10, last_used=1, load_s=LONG_LOAD), serving("busy", 10, in_flight=1)]
    workers = [worker("w1", "taken"), worker("w2", "taken"), *others]
    plan = decide(view([device(max_workers=4)], workers, runners, [waiter(1, "b", 10)]))
    assert plan.evictions == {}
    assert len(plan.starts) + len(others) == 1
    assert plan.progress[1].detail == "Starting a worker for b"


def test_7_a_more_recently_used_model_goes_if_its_load_was_short():
    runners = [serving("long", 10, last_used=1, load_s=LONG_LOAD), serving("short", 10, last_used=2)]
    workers = [worker("w1", "taken"), worker("w2", "taken")]
    plan = decide(view([device(max_workers=4)], workers, runners, [waiter(1, "b", 10)]))
    assert plan.evictions == {"short": "b"}


@pytest.mark.parametrize(
    ("devices", "size"),
    [([device(max_workers=1)], 10), ([device(may_start=False)], 10), ([device()], 100)],
    ids=["no place for a worker", "workers fail to start", "no room"],
)
def test_7_a_model_whose_load_was_long_gives_its_worker_where(devices, size):
    runners = [serving("long", 10, load_s=LONG_LOAD)]
    plan = decide(view(devices, [worker("w1", "taken")], runners, [waiter(1, "b", size)]))
    assert plan.evictions == {"long": "b"}


@pytest.mark.parametrize("state", ["starting", "leaving"])
def test_7_once_a_model_has_given_way_the_start_of_its_workers_successor_is_waited_for(state):
    workers = [worker("w1", "taken"), worker("w2", state)]
    for gave_way, evicted in [(False, {"a": "b"}), (True, {})]:
        waiters = [waiter(1, "b", 10, gave_way=gave_way)]
        plan = decide(view([device(max_workers=2)], workers, [serving("a", 10)], waiters))
        assert (plan.evictions, plan.starts) == (evicted, ())


def test_7_where_none_can_start_another_model_gives_way():
    waiters = [waiter(1, "b", 10, gave_way=True)]
    plan = decide(view([device(max_workers=1)], [worker("w1", "taken")], [serving("a", 10)], waiters))
    assert plan.evictions == {"a": "b"}


def test_7_who_gives_way_for_room_beside_a_start_keeps_a_worker_that_is_not_needed():
    waiters = [waiter(1, "b", 90, gave_way=True)]
    workers = [worker("w1", "taken"), worker("w2", "starting")]
    plan = decide(view([device(host_budget=100)], workers, [serving("a", 80)], waiters))
    assert (plan.evictions, [sleep.model for sleep in plan.sleeps]) == ({}, ["a"])


def test_7_of_two_devices_the_one_with_a_worker_is_taken():
    devices = [device(200, name="cuda:0"), device(name="cuda:1")]
    workers = [worker("w0", "taken", on="cuda:0"), worker("w1", "taken", on="cuda:1")]
    runners = [serving("long", 10, load_s=LONG_LOAD, on="cuda:0"), serving("short", 10, on="cuda:1")]
    assert decide(view(devices, workers, runners, [waiter(1, "b", 10)])).evictions == {"short": "b"}


def test_7_where_all_are_busy_a_worker_is_started():
    plan = decide(
        view(
            workers=[worker("w1", "taken")],
            runners=[serving("a", 10, in_flight=1)],
            waiters=[waiter(1, "b", 10)],
        )
    )
    assert plan.starts == ("cpu",)
    assert plan.progress[1].stage == "starting"


def test_7_while_workers_fail_to_start_an_idle_model_gives_its_own():
    plan = decide(
        view(
            [device(spares=1, may_start=False)],
            workers=[worker("w1", "taken")],
            runners=[serving("a", 10)],
            waiters=[waiter(1, "b", 10)],
        )
    )
    assert (plan.evictions, plan.starts) == ({"a": "b"}, ())


def test_7_while_workers_fail_to_start_no_request_starves():
    plan = decide(
        view(
            [device(may_start=False)],
            workers=[worker("w1", "taken")],
            runners=[serving("a", 10, in_flight=1)],
            waiters=[waiter(1, "b", 10, waited=FAIRNESS + 1), waiter(2, "a")],
        )
    )
    assert (plan.grants, plan.starts) == ((), ())
    assert plan.progress[1].detail == "Waiting for a to finish answering"


def test_7_while_workers_fail_to_start_and_none_is_there_nothing_is_promised():
    plan = decide(view([device(may_start=False)], waiters=[waiter(1, "a")]))
    assert plan.starts == ()
    assert plan.progress[1].detail == "Waiting for a worker for a"


@pytest.mark.parametrize("state", ["starting", "coming"])
def test_7_a_worker_on_its_way_is_waited_for(state):
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2", state)],
            runners=[serving("a", 10, in_flight=state == "starting")],
            waiters=[waiter(1, "b", 10)],
        )
    )
    assert (plan.evictions, plan.starts) == ({}, ())


def test_7_each_that_waits_claims_a_worker_of_its_own():
    plan = decide(
        view(
            workers=[worker("w1", "coming"), worker("w2", "starting")],
            waiters=[waiter(1, "a", 10), waiter(2, "b", 10), waiter(3, "c", 10)],
        )
    )
    assert plan.starts == ("cpu",)


def test_8_a_busy_model_is_never_evicted():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2")],
            runners=[serving("a", 80, in_flight=1)],
            waiters=[waiter(1, "b", waited=99)],
        )
    )
    assert plan.evictions == {}
    assert "a" in plan.progress[1].detail


def test_8_nothing_is_evicted_in_vain():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2", "taken"), worker("w3")],
            runners=[serving("idle", 20), serving("busy", 70, in_flight=1)],
            waiters=[waiter(1, "c", 90)],
        )
    )
    assert plan.evictions == {}


def test_8_requests_for_a_serving_model_are_grouped():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2")],
            runners=[serving("a", 80)],
            waiters=[waiter(1, "b", waited=1), waiter(2, "a")],
        )
    )
    assert plan.grants == (2,)
    assert plan.evictions == {}


def test_8_a_stream_of_newcomers_cannot_starve_an_old_request():
    runners = [serving("a", 80, in_flight=1)]
    waiters = [waiter(1, "b", waited=FAIRNESS + 1), waiter(2, "a")]
    plan = decide(view(workers=[worker("w1", "taken"), worker("w2")], runners=runners, waiters=waiters))
    assert plan.grants == ()
    drained = [serving("a", 80, in_flight=0)]
    plan = decide(view(workers=[worker("w1", "taken"), worker("w2")], runners=drained, waiters=waiters))
    assert plan.grants == ()
    assert plan.evictions == {"a": "b"}


def test_8_a_backlog_is_worked_off_in_groups():
    """It is closed to those that came when the wait was too long, as if it had served all the while."""
    waiters = [
        waiter(1, "b", waited=50),
        waiter(2, "a", waited=45),
        waiter(3, "a", waited=40.1),
        waiter(4, "a", waited=39.9),
    ]
    busy = [serving("a", 80, in_flight=1)]
    plan = decide(view(workers=[worker("w1", "taken"), worker("w2")], runners=busy, waiters=waiters))
    assert plan.grants == (2, 3)


def test_8_a_request_older_than_the_starving_one_still_goes_ahead():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2")],
            runners=[serving("a", 80)],
            waiters=[waiter(1, "a", waited=20), waiter(2, "b", waited=15)],
        )
    )
    assert plan.grants == (1,)
    assert plan.evictions == {}


def test_a_waiting_model_keeps_its_claim_against_later_ones():
    plan = decide(
        view(
            workers=[worker("w1", "taken"), worker("w2"), worker("w3")],
            runners=[serving("a", 60, in_flight=1)],
            waiters=[waiter(1, "b", 80), waiter(2, "small", 30)],
        )
    )
    assert plan.loads == ()


def test_a_load_nobody_waits_for_is_given_up():
    loading = RunnerView("a", "cpu", "loading", 40)
    assert decide(view(workers=[worker("w1", "taken")], runners=[loading])).evictions == {"a": ""}


def test_spares_are_kept_up_to_the_limit():
    assert decide(view(devices=[device(spares=1)])).starts == ("cpu",)
    assert decide(view(devices=[device(spares=1)], workers=[worker("w1")])).starts == ()
    assert decide(view(devices=[device(spares=1)], workers=[worker("", "starting")])).starts == ()
    full = view(
        devices=[device(spares=1, max_workers=1)], workers=[worker("w1", "taken")], runners=[serving("a")]
    )
    assert decide(full).starts == ()


def test_a_worker_that_will_be_back_counts_as_a_spare():
    leaving = RunnerView("a", "cpu", "unloading", 40)
    plan = decide(view(devices=[device(spares=1)], workers=[worker("w1", "taken")], runners=[leaving]))
    assert plan.starts == ()


@pytest.mark.parametrize(("free_gpu", "other"), [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")])
def test_of_two_devices_the_one_with_room_is_taken(free_gpu, other):
    plan = decide(
        view(
            devices=[device(name="cuda:0"), device(name="cuda:1")],
            workers=[worker("w0", on="cuda:0"), worker("w1", on="cuda:1"), worker("w2", "taken", on=other)],
            runners=[serving("a", 80, on=other)],
            waiters=[waiter(1, "b", 50)],
        )
    )
    assert [load.device for load in plan.loads] == [free_gpu]


def test_a_device_whose_workers_are_all_busy_is_not_preferred_for_its_room():
    plan = decide(
        view(
            devices=[device(200, max_workers=1, name="cuda:0"), device(100, max_workers=2, name="cuda:1")],
            workers=[
                worker("w0", "taken", on="cuda:0"),
                worker("w1", "taken", on="cuda:1"),
                worker("w2", on="cuda:1"),
            ],
            runners=[serving("a", 50, in_flight=1, on="cuda:0"), serving("idle", 80, on="cuda:1")],
            waiters=[waiter(1, "b", 90)],
        )
    )
    assert plan.evictions == {"idle": "b"}
