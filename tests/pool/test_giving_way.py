"""Who would give way next: told as the policy would decide it."""

import random
from dataclasses import replace

import pytest

from tests.pool.made_up import asleep, device, serving, view, waiter, worker
from workbench.pool.giving_way import giving_way
from workbench.pool.policy import RunnerView, decide


def made_up_pool(chance):
    runners = []
    for number in range(chance.randint(1, 6)):
        model, last_used = f"m{number}", chance.uniform(0, 900)
        kind = chance.choice(["serving", "serving", "serving", "asleep", "loading", "sleeping"])
        if kind == "serving":
            runner = serving(model, chance.randint(5, 60), chance.choice([0, 0, 0, 1]), last_used)
        elif kind == "asleep":
            runner = asleep(model, last_used=last_used)
        else:
            runner = RunnerView(model, "cpu", kind, 20, last_used=last_used)
        flags = {name: chance.random() < 0.15 for name in ("kept", "draining")}
        runners.append(replace(runner, **flags, can_sleep=chance.random() < 0.8))
    used = sum(runner.device_bytes for runner in runners)
    workers = [worker(f"w{r.model}", "taken") for r in runners]
    workers += [worker("spare", chance.choice(["warm", "coming", "starting"]))] * chance.randint(0, 1)
    waiting = [r.model for r in runners if r.state in ("serving", "loading") and chance.random() < 0.2]
    devices = [device(used + chance.randint(0, 50), 8, host_budget=chance.choice([None, 100]))]
    return view(devices, workers, runners, [waiter(i, model, 20) for i, model in enumerate(waiting)])


@pytest.mark.parametrize("seed", range(300))
def test_it_agrees_with_the_policy(seed):
    pool = made_up_pool(random.Random(seed))
    told = giving_way(pool)["cpu"]
    budget = pool.devices[0].budget_bytes
    coming = sum(r.device_bytes for r in pool.runners if r.state == "sleeping" or _drains_now(r))
    free = budget - sum(runner.device_bytes for runner in pool.runners) + coming
    plan = decide(replace(pool, waiters=(*pool.waiters, waiter(99, "newcomer", free + 1))))
    fixed = sum(r.device_bytes for r in pool.runners if r.kept and not r.draining and r.state != "sleeping")
    if free + 1 > budget - fixed:
        assert 99 in plan.refusals
        return
    asleep_for_it = {sleep.model for sleep in plan.sleeps if sleep.for_model == "newcomer"}
    gone_for_it = {model for model, for_model in plan.evictions.items() if for_model == "newcomer"}
    if told.memory:
        victim = told.memory[0]
        assert asleep_for_it | gone_for_it == {victim} | ({told.worker} - {""})
        assert (victim in asleep_for_it) == (victim in told.falls_asleep)
    else:
        assert asleep_for_it | gone_for_it == set()
    assert set(told.stays).isdisjoint(asleep_for_it | gone_for_it)


def _drains_now(runner):
    return runner.draining and not runner.in_flight


def test_why_a_model_stays():
    runners = [
        replace(serving("a", 10), kept=True),
        serving("b", 10, in_flight=1),
        serving("c", 10),
        RunnerView("d", "cpu", "loading", 10),
        replace(serving("e", 10), draining=True),
        serving("f", 10, last_used=1),
    ]
    told = giving_way(view(workers=[worker("w")], runners=runners, waiters=[waiter(1, "c", 10)]))["cpu"]
    assert told.memory == ("f",)
    assert (told.worker, told.falls_asleep) == ("", frozenset())
    assert told.stays == {
        "a": "is pinned",
        "b": "is answering",
        "c": "is waited for",
        "d": "is being loaded",
        "e": "gives way already",
    }


def test_where_no_worker_is_warm_the_longest_unused_sleeper_gives_its_own():
    runners = [asleep("a", last_used=2), asleep("b", last_used=1), serving("c")]
    told = giving_way(view([device(host_budget=100)], [worker("w", "taken")], runners))["cpu"]
    assert (told.memory, told.falls_asleep, told.worker) == (("c",), frozenset({"c"}), "b")
