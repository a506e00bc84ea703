"""The controller with workers whose models can sleep, all of them pretended."""

import asyncio

import pytest

from tests.pool.fakes import running, spec, use
from workbench.errors import ConflictError, ShuttingDownError
from workbench.pool.policy import Plan, decide
from workbench.pool.states import WorkerState

LEVEL_1, LEVEL_2 = ("sleep", 1), ("sleep", 2)


def sleeps(pool, model):
    return [call for call in pool.client_of[model].calls if call[0] == "sleep"]


async def sleeping(pool, *models, size=80):
    """Use the models one after another; each falls asleep for the next, the last one stays awake."""
    for model in models:
        await use(pool, model, size)
    await pool.until(lambda: list(pool.runners().values()).count("asleep") == len(models) - 1)


async def test_the_model_that_gives_way_sleeps_and_is_woken_when_it_is_asked_for():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        assert sleeps(pool, "a") == [LEVEL_1]
        lease = await use(pool, "a", 80)
        assert lease.client is pool.client_of["a"]
        assert pool.runners() == {"a": "serving", "b": "asleep"}
        assert pool.controller.snapshot().devices[0].used_bytes == 80
        swap = pool.swaps[-1]
        assert (swap.model, swap.from_residency, swap.evicted, swap.outcome) == ("a", "host", ("b",), "ok")
        assert lease.swap is swap
        assert swap.weights_s <= swap.total_s
        assert len(pool.clients) == 2


async def test_the_snapshot_tells_what_sleeps_and_what_it_takes():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        snapshot = pool.controller.snapshot()
        (asleep,) = (runner for runner in snapshot.runners if runner.model == "a")
        assert (asleep.state, asleep.device_bytes, asleep.host_bytes) == ("asleep", 0, 70)
        (device,) = snapshot.devices
        assert (device.can_sleep, device.used_bytes, device.host_budget_bytes) == (True, 80, 1000)
        assert device.host_used_bytes >= 70
        assert pool.states()[WorkerState.ASLEEP] == 1


async def test_models_fall_asleep_in_order_of_last_use():
    async with running(budget=100, max_workers=4, host_budget=1000) as pool:
        for model in ("a", "b", "a", "c"):
            await use(pool, model, 40)
        await pool.until(lambda: "asleep" in pool.runners().values())
        assert pool.runners() == {"a": "serving", "b": "asleep", "c": "serving"}


async def test_a_model_without_room_in_host_memory_drops_its_weights():
    async with running(max_workers=4, host_budget=100) as pool:
        await sleeping(pool, "a", "b", "c")
        assert (sleeps(pool, "a"), sleeps(pool, "b")) == ([LEVEL_1], [LEVEL_2])
        lease = await use(pool, "b", 80)
        assert lease.swap.from_residency == "disk"
        assert lease.client is pool.client_of["b"]


async def test_a_model_that_is_used_again_takes_the_host_memory_of_one_that_is_not():
    async with running(max_workers=4, host_budget=100) as pool:
        await sleeping(pool, "a", "b", "c")
        await use(pool, "b", 80)
        await pool.until(lambda: "a" not in pool.runners())
        await use(pool, "c", 80)
        assert sleeps(pool, "b") == [LEVEL_2, LEVEL_1]


async def test_the_longest_unused_sleeper_gives_its_worker_back():
    async with running(max_workers=3, host_budget=1000, spare_workers=0) as pool:
        for model in ("a", "b", "a", "c", "b"):  # each that finds no warm worker has one started
            await use(pool, model, 80)
            await pool.until(lambda: not pool.states().get("starting"))
        await pool.until(lambda: pool.runners() == {"a": "asleep", "b": "serving", "c": "asleep"})
        await use(pool, "d", 80)
        await pool.until(lambda: pool.runners() == {"b": "asleep", "c": "asleep", "d": "serving"})
        assert pool.swaps[-1].evicted == ("a", "b")
        await pool.until(lambda: pool.client_of["a"].closed)
        assert len(pool.workers) == 3


async def test_a_worker_is_kept_warm_beside_those_of_models_asleep():
    async with running(max_workers=3, host_budget=1000) as pool:
        for model in ("a", "b", "c"):
            await use(pool, model, 80)
        await pool.until(lambda: pool.states().get("warm"))
        assert pool.runners() == {"b": "asleep", "c": "serving"}


async def test_a_request_that_comes_while_its_model_falls_asleep_waits_and_wakes_it():
    async with running(host_budget=1000) as pool:
        await use(pool, "a", 80)
        client = pool.client_of["a"]
        client.hold("sleep")
        async with pool.controller.ask(spec("b", 80)) as other:
            await pool.until(lambda: pool.runners().get("a") == "sleeping")
            asked = asyncio.create_task(use(pool, "a", 80))
            await pool.until(lambda: len(pool.controller.snapshot().waiters) == 2)
            client.let_go("sleep")
            await other.lease()
            assert not asked.done()
        assert (await asked).client is client
        assert [call[0] for call in client.calls if call[0] != "pin"] == ["sleep", "wake"]


async def test_a_model_in_flight_is_not_put_to_sleep():
    async with running(host_budget=1000) as pool:
        async with pool.controller.ask(spec("a", 80)) as ticket:
            await ticket.lease()
            asked = asyncio.create_task(use(pool, "b", 80))
            await pool.until(lambda: pool.controller.snapshot().waiters)
            assert sleeps(pool, "a") == []
        await asked
        assert sleeps(pool, "a") == [LEVEL_1]


async def test_a_request_that_leaves_while_its_model_wakes_leaves_it_awake():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        pool.client_of["a"].hold("wake")
        async with pool.controller.ask(spec("a", 80)) as ticket:
            async for progress in ticket.stages():
                if progress.stage == "waking":
                    break
            assert progress.detail == "Waking a from host memory, 0.0 GB"
            await pool.until(lambda: pool.runners()["a"] == "waking")
        pool.client_of["a"].let_go("wake")
        await pool.until(lambda: pool.runners()["a"] == "serving")
        assert (await use(pool, "a", 80)).swap is None


async def test_a_worker_that_dies_asleep_takes_nobody_along():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        asleep = next(worker for worker in pool.workers if worker.state is WorkerState.ASLEEP)
        asleep.die()
        await pool.until(lambda: pool.runners() == {"b": "serving"})
        lease = await use(pool, "a", 80)
        assert lease.swap.from_residency == "disk"
        assert pool.clients[0].closed


async def test_a_request_whose_worker_dies_in_the_wake_gets_the_model_from_the_disk():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        old = pool.client_of["a"]
        old.hold("wake")
        asked = asyncio.create_task(use(pool, "a", 80))
        await pool.until(lambda: pool.runners()["a"] == "waking")
        next(worker for worker in pool.workers if worker.state is WorkerState.WAKING).die()
        lease = await asked
        assert lease.client is not old
        assert [(swap.from_residency, swap.outcome) for swap in pool.swaps[-2:]] == [
            ("host", "failed"),
            ("disk", "ok"),
        ]


@pytest.mark.parametrize("call", ["sleep", "wake"])
async def test_a_worker_that_dies_just_as_its_sleep_or_wake_ends_is_gone(call):
    """Both are told of at once; by then the worker is dead."""
    async with running(host_budget=1000) as pool:
        await use(pool, "a", 80)
        client, worker = pool.client_of["a"], pool.workers[0]
        client.hold(call)
        asked = [asyncio.create_task(use(pool, "b", 80))]
        if call == "wake":
            await asked[0]
            asked.append(asyncio.create_task(use(pool, "a", 80)))
        await pool.until(lambda: pool.runners()["a"] == {"sleep": "sleeping", "wake": "waking"}[call])
        client.let_go(call)
        worker.die()
        await asyncio.gather(*asked)
        assert worker.state is WorkerState.DEAD
        assert (await use(pool, "a", 80)).client is not client


@pytest.mark.parametrize(
    ("call", "says"), [("sleep", "could not put a to sleep"), ("wake", "could not wake a")]
)
async def test_a_worker_whose_model_is_neither_asleep_nor_awake_is_replaced(call, says):
    async with running(host_budget=1000) as pool:
        await use(pool, "a", 80)
        old = pool.client_of["a"]
        old.errors[call] = RuntimeError("CUDA error: out of memory")
        await use(pool, "b", 80)
        lease = await use(pool, "a", 80)
        assert lease.client is not old
        worker = pool.workers[0]
        assert worker.state is WorkerState.DEAD
        assert worker.crash_reason == f"{says} (CUDA error: out of memory)"
        assert old.closed


async def test_a_worker_that_takes_too_long_to_fall_asleep_is_replaced():
    async with running(host_budget=1000, sleep_timeout=0.0) as pool:
        await use(pool, "a", 80)
        pool.client_of["a"].hold("sleep")
        assert (await use(pool, "b", 80)).client is pool.client_of["b"]
        assert pool.workers[0].state is WorkerState.DEAD
        assert "was sleeping for more than 0 s" in pool.workers[0].crash_reason


@pytest.mark.parametrize("state", ["sleeping", "asleep", "waking"])
async def test_a_model_can_be_unloaded_however_it_sleeps(state):
    async with running(host_budget=1000) as pool:
        await use(pool, "a", 80)
        client = pool.client_of["a"]
        if state == "sleeping":
            client.hold("sleep")
        client.hold("wake")
        asked = [asyncio.create_task(use(pool, "b", 80))]
        await pool.until(lambda: pool.runners()["a"] == ("sleeping" if state == "sleeping" else "asleep"))
        if state == "waking":
            await asked[0]
            asked.append(asyncio.create_task(use(pool, "a", 80)))
            await pool.until(lambda: pool.runners()["a"] == "waking")
            with pytest.raises(ConflictError, match="1 request waits for a to be ready"):
                await pool.controller.unload("a")
        await pool.controller.unload("a", force=True)
        await pool.until(lambda: "a" not in pool.runners() and client.closed)
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(result, ConflictError) for result in results] == [False, True][: len(asked)]
        await pool.until(lambda: pool.workers[0].state in (WorkerState.WARM, WorkerState.SERVING))


async def test_one_piece_is_pinned_at_a_time_and_a_shutdown_does_not_wait_for_it():
    async with running(host_budget=1000) as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            client = (await ticket.lease()).client
            client.hold("pin")
        await pool.until(lambda: client.calls)
        await use(pool, "b", 20)
        assert client.calls == [("pin",)]
        async with asyncio.timeout(0.9):
            await pool.end()
        assert not pool.controller._tasks


@pytest.mark.parametrize("state", ["sleeping", "asleep", "waking"])
async def test_a_shutdown_ends_models_however_they_sleep(state):
    async with running(host_budget=1000) as pool:
        await use(pool, "a", 80)
        client = pool.client_of["a"]
        if state == "sleeping":
            client.hold("sleep")
        client.hold("wake")
        asked = asyncio.create_task(use(pool, "b", 80))
        await pool.until(lambda: pool.runners()["a"] == ("sleeping" if state == "sleeping" else "asleep"))
        if state != "sleeping":
            await asked
        if state == "waking":
            asked = asyncio.create_task(use(pool, "a", 80))
            await pool.until(lambda: pool.runners()["a"] == "waking")
        async with asyncio.timeout(0.9):  # nothing waits for an engine that answers no more
            await pool.end()
        if state != "asleep":
            with pytest.raises(ShuttingDownError):
                await asked
        assert client.closed
        assert not pool.controller._tasks


async def test_another_spec_of_a_sleeping_model_is_loaded_anew():
    async with running(host_budget=1000) as pool:
        await sleeping(pool, "a", "b")
        lease = await use(pool, "a", 70)
        assert lease.swap.device_bytes == 70
        assert [call[0] for call in pool.clients[0].calls if call[0] != "pin"] == ["sleep"]


async def test_host_memory_is_pinned_while_models_are_idle_piece_by_piece():
    async with running(host_budget=1000) as pool:
        async with pool.controller.ask(spec("a", 80)) as ticket:
            client = (await ticket.lease()).client
            await pool.until(lambda: pool.controller.snapshot().runners[0].in_flight)
            assert client.calls == []
        await pool.until(lambda: len(client.calls) == 2)
        await use(pool, "a", 80)
        assert client.calls == [("pin",), ("pin",)]  # two pieces were to be pinned


async def test_host_memory_that_cannot_be_pinned_is_not_tried_again():
    async with running(host_budget=1000) as pool:
        async with pool.controller.ask(spec("a", 80)) as ticket:
            client = (await ticket.lease()).client
            client.errors["pin"] = RuntimeError("no more pinned memory")
        await pool.until(lambda: client.calls)
        await sleeping(pool, "a", "b")
        assert client.calls == [("pin",), LEVEL_1]


async def test_a_device_that_cannot_sleep_unloads():
    async with running() as pool:
        await use(pool, "a", 80)
        await use(pool, "b", 80)
        assert pool.on_device() == {"b"}
        assert pool.client_of["a"].calls == []


async def test_the_policy_can_be_another():
    def refuse_b(view):
        plan = decide(view)
        refused = {waiter.id: "not b" for waiter in view.waiters if waiter.model == "b"}
        return Plan(refusals=refused) if refused else plan

    async with running(decide=refuse_b) as pool:
        await use(pool, "a")
        with pytest.raises(Exception, match="not b"):
            await use(pool, "b")
