"""The order of requests, and that none waits for ever, on made-up traces: no engine, no clock."""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import get_args

import pytest

from tests.pool.made_up import device, worker
from workbench.pool.policy import PoolView, RunnerView, WaiterView, decide
from workbench.pool.scheduling import Claim, Scheduler, Scheduling

POLICIES = get_args(Scheduling)
LIMIT_S = 60.0


def order(policy, *arrivals):
    """Names in the order in which they go ahead; each arrival is (time, name, claim)."""
    scheduler = Scheduler(policy, LIMIT_S)
    places = {name: scheduler.arrive(claim, at) for at, name, claim in arrivals}
    return "".join(sorted(places, key=lambda name: places[name].rank))


def test_fcfs_looks_at_nothing_but_arrival():
    claims = Claim(5, "me", 900), Claim(-5, "you", 1), Claim(0, "you", 1)
    assert order("fcfs", *zip((0, 1, 2), "abc", claims, strict=True)) == "abc"


def test_an_urgent_request_goes_first_and_others_by_arrival():
    assert order(
        "priority", (0, "a", Claim(1)), (1, "b", Claim(0)), (2, "c", Claim(1)), (3, "d", Claim(-1))
    ) == ("dbac")


@pytest.mark.parametrize("policy", ["fcfs", "sjf", "fair"])
def test_a_requests_own_priority_counts_under_that_policy_only(policy):
    assert order(policy, (0, "a", Claim(9)), (1, "b", Claim(-9))) == "ab"


def test_every_priority_counts_and_the_engine_is_told_in_64_bits():
    scheduler = Scheduler("priority", LIMIT_S)
    priorities = [-(10**400), -(2**63), -100, -2, -1, 0, 1, 2, 100, 2**63, 10**400]
    places = [scheduler.arrive(Claim(priority), 1e7) for priority in priorities]  # up for 115 days
    assert all(a.rank <= b.rank and a.priority <= b.priority for a, b in pairwise(places))
    assert len({place.priority for place in places[1:-1]}) >= len(places) - 4
    assert all(-(2**63) <= place.priority < 2**63 for place in places)


def test_the_shorter_job_goes_first():
    claims = Claim(expected_tokens=2000), Claim(expected_tokens=50), Claim(expected_tokens=400)
    assert order("sjf", *zip((0, 1, 2), "abc", claims, strict=True)) == "bca"


def test_who_asks_for_much_at_once_lets_others_in():
    flood = [(0, name, Claim(owner="much", expected_tokens=100)) for name in "abcdef"]
    assert order("fair", *flood, (1, "y", Claim(owner="little", expected_tokens=100))) == "aybcdef"


def test_two_who_ask_for_much_take_turns():
    requests = [(0, name, Claim(owner=name.upper(), expected_tokens=100)) for name in "aaaa"]
    scheduler = Scheduler("fair", LIMIT_S)
    ranks = [(scheduler.arrive(claim, at).rank, "a") for at, _, claim in requests]
    ranks += [(scheduler.arrive(Claim(owner="B", expected_tokens=100), 0.1).rank, "b") for _ in range(4)]
    assert "".join(name for _, name in sorted(ranks)) == "abababab"


def test_long_answers_use_more_of_a_share_than_short_ones():
    scheduler = Scheduler("fair", LIMIT_S)
    ranks = [(scheduler.arrive(Claim(owner="long", expected_tokens=600), 0).rank, "L") for _ in range(2)]
    ranks += [(scheduler.arrive(Claim(owner="short", expected_tokens=100), 0.1).rank, "s") for _ in range(5)]
    assert "".join(name for _, name in sorted(ranks)) == "LsssssL"


def test_a_share_is_of_what_is_wanted_now():
    """Who was alone owes nothing for it, and who was away has saved nothing up."""
    scheduler = Scheduler("fair", LIMIT_S)
    claim = Claim(owner="alone", expected_tokens=1000)
    held = scheduler.arrive(Claim(owner="other"), 0)  # somebody is always there
    for at in range(20):
        scheduler.leave(scheduler.arrive(claim, at), claim, served=True)
    alone, new = scheduler.arrive(claim, 20), scheduler.arrive(Claim(owner="new", expected_tokens=1000), 20)
    assert 20 < alone.rank < 20 + LIMIT_S * 1000 / 1500, "one request ahead, not twenty"
    assert new.rank == 20
    again = scheduler.arrive(Claim(owner="new", expected_tokens=1000), 20)
    assert again.rank == pytest.approx(20 + LIMIT_S * 1000 / 1512)
    scheduler.leave(held, Claim(owner="other"), served=True)


def test_who_gives_up_waiting_has_used_nothing():
    scheduler = Scheduler("fair", LIMIT_S)
    claim = Claim(owner="me", expected_tokens=1000)
    scheduler.arrive(Claim(owner="other"), 0)
    scheduler.leave(scheduler.arrive(claim, 0), claim, served=False)
    assert scheduler.arrive(claim, 1).rank == 1


def test_owners_are_forgotten():
    scheduler = Scheduler("fair", LIMIT_S)
    scheduler.arrive(Claim(owner="always there"), 0)
    for number in range(5000):
        claim = Claim(owner=f"once {number}", expected_tokens=9)
        scheduler.leave(scheduler.arrive(claim, number), claim, served=True)
    assert len(scheduler._ends) <= LIMIT_S + 1


def any_claim(chance):
    tokens = chance.choice([0, 3, 200, 5000, 10**9])
    return Claim(chance.choice([-(10**9), -3, -1, 0, 0, 1, 7, 10**9]), chance.choice("abc"), tokens)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_overtaken_by_who_comes_later_than_the_limit(policy, seed):
    chance = random.Random(seed)
    scheduler = Scheduler(policy, LIMIT_S)
    now, here, ranks = 0.0, [], []
    for _ in range(400):
        now += chance.choice([0, 0.01, 1, 5])
        claim = any_claim(chance)
        place = scheduler.arrive(claim, now)
        ranks.append((now, place.rank))
        here.append((place, claim))
        while len(here) > 1 and chance.random() < 0.5:
            scheduler.leave(*here.pop(chance.randrange(len(here))), served=chance.random() < 0.8)
    assert all(at <= rank for at, rank in ranks)
    early = [(a, b) for a in ranks for b in ranks if b[0] >= a[0] + LIMIT_S]
    assert early
    assert all(a[1] <= b[1] for a, b in early)
    overtaken = any(a[1] > b[1] for a in ranks for b in ranks if b[0] > a[0])
    assert overtaken == (policy != "fcfs"), "the others are no mere orders of arrival"


STEP_S = 0.5
LOAD_S, UNLOAD_S, ANSWER_S, FAIRNESS_S = 3.0, 1.0, 2.0, 10.0


@dataclass
class Held:
    """A model that a worker holds, in a made-up pool."""

    state: str
    until: float
    ends: list = field(default_factory=list)
    """When its answers under way end."""
    last_used: float = 0.0


@dataclass
class MadeUpPool:
    """A device that holds one model at a time, under the real policy."""

    scheduler: Scheduler
    now: float = 0.0
    held: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)
    waits: list = field(default_factory=list)

    def ask(self, model, claim):
        self.waiting.append((self.scheduler.arrive(claim, self.now), model, claim, self.now))

    def step(self):
        """Let `STEP_S` pass, and decide."""
        self.now += STEP_S
        for model, held in list(self.held.items()):
            if held.state == "loading" and held.until <= self.now:
                held.state = "serving"
            elif held.state == "unloading" and held.until <= self.now:
                del self.held[model]
            held.ends = [end for end in held.ends if end > self.now]
        self.waiting.sort(key=lambda waiter: waiter[0].rank)
        plan = decide(self.view())
        for number in plan.grants:
            place, model, claim, since = self.waiting[number]
            self.waits.append((model, claim, self.now - since))
            self.scheduler.leave(place, claim, served=True)
            self.held[model].ends.append(self.now + ANSWER_S)
            self.held[model].last_used = self.now
        self.waiting = [w for number, w in enumerate(self.waiting) if number not in plan.grants]
        for model in plan.evictions:
            self.held[model].state, self.held[model].until = "unloading", self.now + UNLOAD_S
        for load in plan.loads:
            self.held[load.model] = Held("loading", self.now + LOAD_S, last_used=self.now)

    def view(self):
        runners = tuple(
            RunnerView(model, "cpu", held.state, 40, len(held.ends), held.last_used, load_s=LOAD_S)
            for model, held in self.held.items()
        )
        waiters = tuple(
            WaiterView(number, model, 40, since) for number, (_, model, _, since) in enumerate(self.waiting)
        )
        warm = tuple(worker(f"w{number}") for number in range(3 - len(runners)))
        return PoolView(self.now, FAIRNESS_S, (device(budget=50, max_workers=3),), warm, runners, waiters)


def starve(policy, limit_s, for_s):
    """One request for b, of the kind that goes last, while favoured ones for a come and come."""
    pool = MadeUpPool(Scheduler(policy, limit_s))
    pool.ask("a", Claim(-1, "a"))
    for number in range(int(for_s / STEP_S)):
        pool.step()
        pool.ask("a", Claim(-1, f"new {number}", 1))
        if number == 20:
            if policy == "fair":
                for _ in range(40):  # they have had more than their share
                    pool.ask("a", Claim(0, "greedy", 1000))
            pool.ask("b", Claim(100, "greedy", 5000))
            if policy == "sjf":
                assert pool.waiting[-1][0].rank > pool.now
    return [wait for model, _, wait in pool.waits if model == "b"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_switch_is_waited_for_no_longer_than_the_limit_and_a_turn(policy):
    limit_s = 40.0
    turn_s = ANSWER_S + UNLOAD_S + LOAD_S + 3 * STEP_S
    (wait,) = starve(policy, limit_s, 120)
    assert wait <= max(limit_s, FAIRNESS_S) + turn_s
    if policy == "fcfs":
        assert wait <= FAIRNESS_S + turn_s
    else:
        assert starve(policy, 1e9, 120) == [], "without a limit it would wait for ever"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_all_are_answered_in_random_traffic(policy, seed):
    chance = random.Random(seed)
    pool = MadeUpPool(Scheduler(policy, 20.0))
    asked = 0
    while pool.now < 200 or pool.waiting:
        if pool.now < 200 and chance.random() < 0.7:
            pool.ask(chance.choice("aaab" if pool.now % 60 < 30 else "bcca"), any_claim(chance))
            asked += 1
        pool.step()
        assert pool.now < 300
    assert len(pool.waits) == asked
    turn_s = FAIRNESS_S + ANSWER_S + UNLOAD_S + LOAD_S + 3 * STEP_S
    assert max(wait for _, _, wait in pool.waits) <= 20.0 + 3 * turn_s
