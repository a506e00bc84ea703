"""The policy with made-up views, on devices whose idle models can sleep."""

from dataclasses import replace

import pytest

from tests.pool.made_up import FAIRNESS, asleep, device, serving, view, waiter, worker
from workbench.pool.policy import Load, RunnerView, Sleep, decide


def taken(*names):
    return [worker(name, "taken") for name in names]


def test_2_a_wake_under_way_is_joined():
    waking = RunnerView("a", "cpu", "waking", 40)
    plan = decide(view([device(host_budget=100)], taken("w1"), [waking], [waiter(1, "a"), waiter(2, "a")]))
    assert plan.wakes == ()
    assert {plan.progress[number].stage for number in (1, 2)} == {"waking"}


def test_3_a_model_that_falls_asleep_is_waited_for():
    sleeping = RunnerView("a", "cpu", "sleeping", 40)
    plan = decide(view([device(host_budget=100)], taken("w1"), [sleeping], [waiter(1, "a")]))
    assert (plan.wakes, plan.loads, plan.evictions) == ((), (), {})
    assert plan.progress[1].detail == "Waiting until a is asleep, to wake it again"


def test_5_a_sleeping_model_that_fits_is_woken_once_for_all_and_needs_no_other_worker():
    devices = [device(max_workers=1, host_budget=100)]
    plan = decide(view(devices, taken("w1"), [asleep("a")], [waiter(1, "a"), waiter(2, "a")]))
    assert plan.wakes == ("a",)
    assert (plan.loads, plan.starts, plan.evictions) == ((), (), {})
    assert plan.progress[2].stage == "waking"


def test_5_a_sleeping_model_takes_nothing_of_its_device():
    plan = decide(
        view(
            [device(host_budget=100)],
            [*taken("w1"), worker("w2")],
            [asleep("a", weights=80)],
            [waiter(1, "b", 90)],
        )
    )
    assert plan.loads == (Load("b", "cpu", ("w2",)),)


def test_6_the_least_recently_used_idle_model_is_put_to_sleep_for_a_load():
    plan = decide(
        view(
            [device(host_budget=100)],
            [*taken("w1", "w2"), worker("w3")],
            [serving("new", last_used=9), serving("old", last_used=1)],
            [waiter(1, "c")],
        )
    )
    assert plan.sleeps == (Sleep("old", 1, "c"),)
    assert plan.evictions == {}
    assert plan.progress[1].detail == "Putting old to sleep"


def test_6_one_model_sleeps_for_another_to_wake():
    runners = [serving("a", 80), asleep("b")]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2"), runners, [waiter(1, "b")]))
    assert plan.sleeps == (Sleep("a", 1, "b"),)
    assert plan.wakes == ()


def test_6_a_model_that_falls_asleep_is_counted_not_repeated():
    runners = [RunnerView("a", "cpu", "sleeping", 80), asleep("b"), serving("c", 10)]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2", "w3"), runners, [waiter(1, "b")]))
    assert (plan.sleeps, plan.wakes) == ((), ())
    assert plan.progress[1].detail == "Putting a to sleep"


def test_7_the_worker_of_the_model_that_slept_longest_unused_is_taken():
    plan = decide(
        view(
            [device(host_budget=200)],
            taken("w1", "w2", "w3"),
            [asleep("new", last_used=9), asleep("old", last_used=1), serving("c", 80)],
            [waiter(1, "d")],
        )
    )
    assert plan.evictions == {"old": "d"}
    assert plan.sleeps == (Sleep("c", 1, "d"),)
    assert plan.progress[1].detail == "Evicting old and Putting c to sleep"


def test_7_a_sleeper_gives_its_worker_though_one_starts():
    plan = decide(view([device(host_budget=100)], taken("w1"), [asleep("a")], [waiter(1, "b")]))
    assert (plan.evictions, plan.starts) == ({"a": "b"}, ("cpu",))


def test_7_without_a_sleeper_the_model_that_serves_leaves_its_worker():
    devices = [device(max_workers=1, host_budget=100)]
    plan = decide(view(devices, taken("w1"), [serving("a", 80)], [waiter(1, "b")]))
    assert plan.evictions == {"a": "b"}
    assert plan.sleeps == ()


def test_7_a_sleeper_gives_its_worker_however_long_its_load_was():
    sleeper = replace(asleep("a"), load_s=99)
    plan = decide(view([device(host_budget=100)], taken("w1"), [sleeper], [waiter(1, "b")]))
    assert plan.evictions == {"a": "b"}


@pytest.mark.parametrize(("waited", "goes"), [(1, False), (FAIRNESS + 1, True)])
def test_7_a_sleeper_that_is_asked_for_keeps_its_worker_until_others_have_waited_long(waited, goes):
    devices = [device(max_workers=1, host_budget=100)]
    waiters = [waiter(1, "b", waited=waited), waiter(2, "a")]
    plan = decide(view(devices, taken("w1"), [asleep("a")], waiters))
    assert plan.evictions == ({"a": "b"} if goes else {})
    assert plan.wakes == (() if goes else ("a",))


def test_7_a_sleeper_that_an_older_request_waits_for_keeps_its_worker():
    devices = [device(max_workers=2, host_budget=100)]
    runners = [asleep("a"), RunnerView("c", "cpu", "sleeping", 80)]
    waiters = [waiter(1, "a", waited=FAIRNESS + 2), waiter(2, "b", 10, waited=FAIRNESS + 1)]
    plan = decide(view(devices, taken("w1", "w2"), runners, waiters))
    assert plan.evictions == {}


def test_7_a_sleeper_that_is_being_woken_keeps_its_worker():
    waiters = [waiter(1, "a", waited=FAIRNESS + 2), waiter(2, "b", 10, waited=FAIRNESS + 1)]
    plan = decide(view([device(max_workers=1, host_budget=100)], taken("w1"), [asleep("a")], waiters))
    assert plan.wakes == ("a",)
    assert plan.evictions == {}


def test_8_a_busy_model_is_never_put_to_sleep():
    runners = [serving("a", 80, in_flight=1), asleep("b")]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2"), runners, [waiter(1, "b", waited=99)]))
    assert (plan.sleeps, plan.wakes) == ((), ())
    assert plan.progress[1].detail == "Waiting for a to finish answering"


def test_8_a_model_that_goes_ahead_now_is_not_put_to_sleep():
    waiters = [waiter(1, "a", waited=99), waiter(2, "b", waited=98)]
    runners = [serving("a", 80), asleep("b")]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2"), runners, waiters))
    assert plan.grants == (1,)
    assert plan.sleeps == ()


def test_8_a_model_that_is_put_to_sleep_takes_no_newcomers():
    waiters = [waiter(1, "b", waited=FAIRNESS + 1), waiter(2, "a")]
    workers = [*taken("w1"), worker("w2")]
    plan = decide(view([device(host_budget=100)], workers, [serving("a", 80)], waiters))
    assert plan.sleeps == (Sleep("a", 1, "b"),)
    assert plan.grants == ()
    assert plan.progress[2].detail == "a gives way to another model first"


def test_8_each_waiting_model_has_another_sleep_for_it():
    runners = [serving("a", last_used=1), serving("b", last_used=2)]
    workers = [*taken("w1", "w2"), worker("w3"), worker("w4")]
    devices = [device(max_workers=4, host_budget=100)]
    plan = decide(view(devices, workers, runners, [waiter(1, "c"), waiter(2, "d")]))
    assert plan.sleeps == (Sleep("a", 1, "c"), Sleep("b", 1, "d"))


def test_8_who_sleeps_already_is_not_waited_for():
    runners = [serving("a"), serving("busy", in_flight=1)]
    workers = [*taken("w1", "w2"), worker("w3")]
    waiters = [waiter(1, "c", 50), waiter(2, "d", 90)]
    plan = decide(view([device(host_budget=100)], workers, runners, waiters))
    assert plan.progress[2].detail.startswith("Waiting for busy to finish answering")


def test_8_nothing_sleeps_in_vain():
    runners = [serving("idle", 20), serving("busy", 70, in_flight=1), asleep("c", 80)]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2", "w3"), runners, [waiter(1, "c", 90)]))
    assert plan.sleeps == ()


def test_a_waking_model_keeps_its_claim_against_later_ones():
    plan = decide(
        view(
            [device(host_budget=100)],
            [*taken("w1", "w2"), worker("w3")],
            [serving("a", 60, in_flight=1), asleep("b", 70)],
            [waiter(1, "b", 80), waiter(2, "small", 30)],
        )
    )
    assert plan.loads == ()


def test_9_idle_models_claim_host_memory_the_most_recently_used_first():
    runners = [
        serving("old", last_used=1, unpinned=True),
        serving("new", last_used=9, unpinned=True),
        serving("busy", last_used=10, in_flight=1, unpinned=True),
    ]
    plan = decide(view([device(200, host_budget=50)], taken("w1", "w2", "w3"), runners))
    assert plan.pins == ("new",)


def test_9_pinning_goes_on_while_a_model_sleeps_and_ends_when_all_is_pinned():
    devices = [device(200, host_budget=90)]
    runners = [
        replace(asleep("a"), unpinned=True),
        replace(asleep("b", level=2), unpinned=True),
        serving("c", host_bytes=30),
    ]
    assert decide(view(devices, taken("w1", "w2", "w3"), runners)).pins == ("a",)


def test_9_no_memory_is_pinned_for_a_model_on_its_way_to_sleep():
    runners = [serving("a", 80, unpinned=True), asleep("b")]
    plan = decide(view([device(host_budget=100)], taken("w1", "w2"), runners, [waiter(1, "b")]))
    assert plan.sleeps
    assert plan.pins == ()


def test_9_where_there_is_no_sleep_nothing_is_pinned():
    assert decide(view([device(200)], taken("w1"), [serving("a", 10, unpinned=True)])).pins == ()


@pytest.mark.parametrize(
    ("host_budget", "claimed", "others", "level"),
    [(30, 0, 0, 1), (29, 0, 0, 2), (0, 0, 0, 2), (30, 30, 0, 1), (60, 0, 30, 1), (59, 0, 30, 2)],
)
def test_10_a_model_sleeps_at_level_2_where_host_memory_is_short(host_budget, claimed, others, level):
    runners = [serving("a", host_bytes=claimed), asleep("z", weights=others)]
    devices = [device(50, max_workers=4, host_budget=host_budget)]
    plan = decide(view(devices, [*taken("w1", "w2"), worker("w3")], runners, [waiter(1, "b")]))
    assert plan.sleeps == (Sleep("a", level, "b"),)


def test_10_of_two_that_sleep_at_once_one_gets_what_host_memory_is_left():
    runners = [serving("a", last_used=1), serving("b", last_used=2)]
    devices = [device(80, host_budget=50)]
    plan = decide(view(devices, [*taken("w1", "w2"), worker("w3")], runners, [waiter(1, "c", 80)]))
    assert plan.sleeps == (Sleep("a", 1, "c"), Sleep("b", 2, "c"))


def test_11_a_model_in_use_again_takes_over_from_one_that_slept_all_the_while():
    runners = [
        serving("b", last_used=9, slept_at=5, unpinned=True),
        asleep("hog", last_used=1),
        asleep("other", last_used=2),
    ]
    devices = [device(host_budget=60)]
    assert decide(view(devices, taken("w1", "w2", "w3"), runners)).evictions == {"hog": ""}


@pytest.mark.parametrize("slept_at", [0.0, 5.0])
def test_11_models_that_take_turns_do_not_push_each_other_out(slept_at):
    runners = [serving("c", last_used=9, slept_at=slept_at), asleep("a", last_used=7)]
    assert decide(view([device(host_budget=30)], taken("w1", "w2"), runners)).evictions == {}


def test_11_what_is_on_its_way_out_is_counted_not_repeated():
    leaving = RunnerView("gone", "cpu", "unloading", 0, sleep_bytes=30, host_bytes=30)
    runners = [serving("b", last_used=9, slept_at=5), leaving, asleep("other", last_used=2)]
    plan = decide(view([device(host_budget=60)], taken("w1", "w2", "w3"), runners))
    assert plan.evictions == {}


def test_11_nothing_goes_if_it_would_not_be_enough():
    runners = [serving("b", 90, last_used=9, slept_at=5), asleep("hog", last_used=1)]
    assert decide(view([device(host_budget=60)], taken("w1", "w2"), runners)).evictions == {}


def test_11_a_sleeper_that_is_asked_for_is_left_alone():
    runners = [
        serving("b", 10, last_used=9, slept_at=5, sleep_bytes=30),
        serving("busy", 80, in_flight=1),
        asleep("hog", last_used=1),
    ]
    plan = decide(view([device(host_budget=30)], taken("w1", "w2", "w3"), runners, [waiter(1, "hog", 50)]))
    assert plan.evictions == {}


def test_11_a_sleeper_without_a_claim_stays():
    runners = [
        serving("b", last_used=9, slept_at=5),
        asleep("dropped", level=2, last_used=1),
        asleep("hog", last_used=2),
    ]
    plan = decide(view([device(host_budget=30)], taken("w1", "w2", "w3"), runners))
    assert plan.evictions == {"hog": ""}


def test_a_device_with_a_sleeper_to_replace_is_able_to_take_a_model():
    plan = decide(
        view(
            [
                device(300, name="cuda:0", max_workers=1, host_budget=100),
                device(name="cuda:1", max_workers=1, host_budget=100),
            ],
            [worker("w0", "taken", on="cuda:0"), worker("w1", "taken", on="cuda:1")],
            [serving("busy", 80, in_flight=1, on="cuda:0"), asleep("a", on="cuda:1")],
            [waiter(1, "b", 80)],
        )
    )
    assert plan.evictions == {"a": "b"}


def test_a_load_nobody_waits_for_is_given_up_but_a_wake_is_not():
    runners = [RunnerView("a", "cpu", "loading", 40), RunnerView("b", "cpu", "waking", 40)]
    assert decide(view([device(host_budget=50)], taken("w1", "w2"), runners)).evictions == {"a": ""}


def test_6_a_model_that_would_keep_its_memory_asleep_is_unloaded():
    runners = [serving("a", 80, can_sleep=False)]
    plan = decide(view([device(host_budget=100)], [*taken("w1"), worker("w2")], runners, [waiter(1, "b")]))
    assert (plan.sleeps, plan.evictions) == ((), {"a": "b"})


def test_12_the_longest_unused_sleeper_gives_its_worker_back_for_a_spare():
    devices = [device(max_workers=3, spares=1, host_budget=100)]
    runners = [asleep("b", last_used=2), asleep("a", last_used=1), serving("c")]
    plan = decide(view(devices, taken("w1", "w2", "w3"), runners))
    assert (plan.evictions, plan.starts) == ({"a": ""}, ())


@pytest.mark.parametrize(
    ("workers", "waiters", "starts"),
    [
        ([worker("w3")], [], ()),
        ([worker("w3", "coming")], [], ()),
        ([worker("w3", "starting")], [], ()),
        ([], [], ("cpu",)),
        ([worker("w3", "leaving")], [waiter(1, "a", size=90)], ()),
    ],
    ids=["a worker is warm", "a worker is coming", "one starts", "one may be started", "it is asked for"],
)
def test_12_a_sleeper_stays_where(workers, waiters, starts):
    devices = [device(max_workers=3, spares=1, host_budget=100)]
    plan = decide(
        view(devices, [*taken("w1", "w2"), *workers], [asleep("a"), serving("c", in_flight=1)], waiters)
    )
    assert (plan.evictions, plan.starts) == ({}, starts)
