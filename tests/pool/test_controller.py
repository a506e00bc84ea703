"""The controller with workers that only pretend: decisions and bookkeeping, no engine and no sleeps."""

import asyncio
import contextlib
import time

import pytest

from tests.pool.fakes import MEMORY, TIMES, running, spec, use
from workbench.errors import (
    ConflictError,
    InsufficientMemoryError,
    ModelLoadError,
    NotFoundError,
    ShuttingDownError,
    UnavailableError,
    WorkerDiedError,
)
from workbench.pool import controller
from workbench.pool.messages import Cleaned, Loaded, LoadFailed, Warmed
from workbench.pool.states import WorkerState


async def test_a_lease_comes_and_goes():
    async with running() as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            assert lease.swap.model == "a"
            await pool.until(lambda: pool.controller.snapshot().runners[0].in_flight == 1)
        await pool.until(lambda: pool.controller.snapshot().runners[0].in_flight == 0)
        assert (await use(pool, "a")).swap is None


async def test_concurrent_requests_share_one_load():
    async with running() as pool:
        leases = await asyncio.gather(*(use(pool, "a") for _ in range(20)))
        assert len({id(lease.client) for lease in leases}) == 1
        assert [swap.model for swap in pool.swaps] == ["a"]


async def test_models_serve_side_by_side_then_the_oldest_goes():
    async with running() as pool:
        for name in ("a", "b", "c"):
            await use(pool, name)
        assert pool.on_device() >= {"b", "c"}
        assert pool.swaps[-1].evicted == ("a",)
        await pool.until(lambda: pool.clients[0].closed)


async def test_a_spare_is_warm_before_it_is_needed():
    async with running() as pool:
        await use(pool, "a")
        await pool.until(lambda: pool.states() == {"serving": 1, "warm": 1})


async def test_a_held_model_stays_and_the_other_waits_for_it():
    async with running(budget=50) as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            await ticket.lease()
            async with pool.controller.ask(spec("b")) as second:
                stages = second.stages()
                while (await anext(stages)).detail != "Waiting for a to finish answering":
                    pass
                assert pool.on_device() == {"a"}
        assert (await use(pool, "b")).swap.evicted == ("a",)


async def test_nobody_is_killed_because_the_app_stood_still(monkeypatch):
    monkeypatch.setattr(controller, "TICK_S", 0.01)
    async with running(ping_timeout=0.2) as pool:
        await use(pool, "a")
        worker = next(w for w in pool.workers if w.state is WorkerState.SERVING)
        worker.asked_at = time.monotonic()
        time.sleep(0.3)  # noqa: ASYNC251  as a container does that is paused
        pings = worker.pings
        while worker.pings < pings + 2 and worker.state is WorkerState.SERVING:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert worker.state is WorkerState.SERVING
        await pool.until(lambda: worker.state is WorkerState.DEAD)  # it gives no sign of life after all


async def test_leaving_while_loading_cancels_the_load():
    async with running() as pool:
        pool.hold_loads = True
        async with pool.controller.ask(spec("a")) as ticket:
            async for progress in ticket.stages():
                if progress.stage == "loading":
                    break
        await pool.until(lambda: not pool.controller.snapshot().runners)
        assert [swap.outcome for swap in pool.swaps] == ["cancelled"]


async def test_an_eviction_for_a_request_that_left_is_not_told_of_the_next_load():
    async with running(budget=50) as pool:
        await use(pool, "a")
        async with pool.controller.ask(spec("b")) as ticket:
            async for progress in ticket.stages():
                if progress.stage == "evicting":
                    break
        await pool.until(lambda: not pool.on_device())
        assert (await use(pool, "b")).swap.evicted == ()


async def test_the_load_goes_on_while_somebody_still_waits():
    async with running() as pool:
        pool.hold_loads = True
        first, second = pool.controller.ask(spec("a")), pool.controller.ask(spec("a"))
        async with second as staying:
            async with first as leaving:
                async for progress in leaving.stages():
                    if progress.stage == "loading":
                        break
            await pool.until(lambda: pool.states()["loading"] == 1)
            next(w for w in pool.workers if w.state is WorkerState.LOADING).say(Loaded(TIMES))
            await staying.lease()
        assert [swap.outcome for swap in pool.swaps] == ["ok"]


async def test_a_failed_load_fails_all_who_wait_and_the_worker_goes_on():
    async with running() as pool:
        pool.hold_loads = True
        waiting = [asyncio.create_task(use(pool, "a")) for _ in range(3)]
        await pool.until(lambda: pool.states()["loading"] == 1)
        worker = next(w for w in pool.workers if w.state is WorkerState.LOADING)
        worker.say(LoadFailed("no such tensor"))
        worker.say(Cleaned(0, MEMORY))
        for task in waiting:
            with pytest.raises(ModelLoadError, match="no such tensor"):
                await task
        await pool.until(lambda: worker.state is WorkerState.WARM)
        assert pool.swaps[0].outcome == "failed"


async def test_a_dead_worker_fails_its_requests_and_is_replaced():
    async with running(budget=50, max_workers=1) as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            pool.workers[0].die()
            await pool.until(lambda: lease.client.failed is not None)
            assert isinstance(lease.client.failed, WorkerDiedError)
        assert (await use(pool, "a")).client is not lease.client
        assert len(pool.workers) == 2


async def test_a_worker_that_keeps_memory_is_replaced():
    async with running(budget=50, max_workers=1, leak_tolerance=10) as pool:
        await use(pool, "a")
        pool.workers[0].leaves_behind = 11
        await use(pool, "b")
        assert [worker.state for worker in pool.workers] == [WorkerState.DEAD, WorkerState.SERVING]


async def test_when_the_worker_of_who_gave_way_is_replaced_nobody_else_gives_way():
    async with running(max_workers=3, spare_workers=0, worker_max_swaps=1) as pool:
        async with contextlib.AsyncExitStack() as stack:
            for model in ("a", "b", "c"):
                ticket = await stack.enter_async_context(pool.controller.ask(spec(model, 10)))
                await ticket.lease()
        evicted = (await use(pool, "d", 10)).swap.evicted
        assert len(evicted) == 1
        assert pool.on_device() == {"a", "b", "c", "d"} - set(evicted)


async def test_a_worker_of_age_is_replaced():
    async with running(budget=50, max_workers=1, worker_max_swaps=1) as pool:
        await use(pool, "a")
        await use(pool, "b")
        assert len(pool.workers) == 2


async def test_workers_that_cannot_start_are_not_started_for_ever():
    async with running(spare_workers=0) as pool:
        pool.launch_error = OSError("no more processes")
        with pytest.raises(UnavailableError, match="Workers can't start: no more processes"):
            await use(pool, "a")


async def test_a_request_does_not_wait_for_workers_that_fail_to_start():
    async with running() as pool:
        async with pool.controller.ask(spec("a", 20)) as ticket:
            await ticket.lease()
            await pool.until(lambda: pool.states() == {"serving": 1, "warm": 1})
            pool.launch_error = OSError("no more processes")
            pool.workers[1].die()
            async with pool.controller.ask(spec("b", 20)) as second:
                async with asyncio.timeout(5):
                    async for progress in second.stages():
                        if progress.detail == "Waiting for a to finish answering":
                            break
        assert (await use(pool, "b", 20)).swap.evicted == ("a",)


async def test_unload_needs_force_while_in_flight():
    async with running() as pool:
        with pytest.raises(NotFoundError):
            await pool.controller.unload("a")
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            with pytest.raises(ConflictError, match="1 request of a is being answered"):
                await pool.controller.unload("a")
            await pool.controller.unload("a", force=True)
            assert isinstance(lease.client.failed, ConflictError)
        await pool.until(lambda: not pool.on_device())


async def test_too_many_waiters_are_turned_away():
    async with running(budget=50, max_queued=2) as pool, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(pool.controller.ask(spec("a")))
        await first.lease()
        for _ in range(2):
            await stack.enter_async_context(pool.controller.ask(spec("b")))
        await pool.until(lambda: pool.controller.snapshot().waiters)
        with pytest.raises(UnavailableError, match="2 requests wait for a model already"):
            await use(pool, "b")


async def test_a_burst_is_bounded_too():
    async with running(budget=50, max_queued=2) as pool:
        pool.hold_loads = True
        asked = [asyncio.create_task(use(pool, "a")) for _ in range(50)]
        done, waiting = await asyncio.wait(asked, timeout=0.5)
        assert (len(done), len(waiting)) == (48, 2)
        assert all(isinstance(task.exception(), UnavailableError) for task in done)
        for task in waiting:
            task.cancel()


async def test_a_slow_reader_of_stages_misses_nothing():
    async with running() as pool, pool.controller.ask(spec("a")) as ticket:
        async with asyncio.timeout(5):
            async for _ in ticket.stages():
                await pool.until(lambda: bool(pool.clients))
        assert (await ticket.lease()).client is pool.clients[0]


async def test_workers_that_crash_while_starting_are_not_started_for_ever():
    async with running(spare_workers=0) as pool:
        pool.crash_at_start = True
        with pytest.raises(UnavailableError, match=r"Workers can't start: .*no module named vllm"):
            await use(pool, "a")
        assert len(pool.workers) == 3


async def test_a_report_that_cannot_be_costs_the_worker_not_the_pool():
    async with running(budget=50, max_workers=1) as pool:
        await use(pool, "a")
        pool.workers[0].say(Warmed(MEMORY))  # a serving worker can't have warmed up
        await pool.until(lambda: len(pool.workers) == 2)
        assert (await use(pool, "a")).client is pool.clients[1]


async def test_a_defect_in_one_event_loses_no_other(monkeypatch):
    async with running() as pool:
        monkeypatch.setattr(pool.controller, "_on_left", lambda ticket: 1 / 0)
        async with pool.controller.ask(spec("a")) as ticket:
            await ticket.lease()
            asked = asyncio.create_task(use(pool, "b", 20))
        await asked
        assert pool.on_device() == {"a", "b"}


async def test_a_worker_that_dies_before_it_is_told_of_a_load_is_replaced_unseen():
    async with running(max_workers=1) as pool:
        pool.configured.clear()
        asked = asyncio.create_task(use(pool, "a"))
        await pool.until(lambda: pool.on_device() == {"a"})
        pool.workers[0].die()
        await pool.until(lambda: len(pool.workers) == 2)
        pool.configured.set()
        assert (await asked).swap.worker == pool.workers[1].id


async def test_a_restarted_worker_gets_no_newcomers():
    async with running(max_workers=1) as pool:
        await use(pool, "a")
        old = pool.workers[0]
        await pool.controller.restart(old.id)
        lease = await use(pool, "a")
        assert lease.client is pool.clients[1]
        assert old.state is WorkerState.DEAD


async def test_another_spec_of_a_model_is_loaded_anew():
    async with running() as pool:
        await use(pool, "a", size=40)
        assert (await use(pool, "a", size=50)).swap.device_bytes == 50


async def test_another_spec_of_a_model_that_answers_waits_for_the_answers():
    async with running() as pool:
        async with pool.controller.ask(spec("a", 40)) as ticket:
            old = await ticket.lease()
            new = asyncio.create_task(use(pool, "a", 50))
            await pool.until(lambda: pool.controller.snapshot().waiters)
            (waiter,) = pool.controller.snapshot().waiters
            assert waiter.progress.detail == (
                "Waiting for 1 answer of a to end: it has changed since it was loaded"
            )
        assert (await new).client is not old.client


@pytest.mark.parametrize(("old", "new"), [(40, 1000), (1000, 40)])
async def test_of_several_specs_that_wait_the_newest_is_placed(old, new):
    async with running(budget=50) as pool:
        results = await asyncio.gather(use(pool, "a", old), use(pool, "a", new), return_exceptions=True)
        if new == 1000:
            assert all(isinstance(result, InsufficientMemoryError) for result in results)
        else:
            assert [result.swap.device_bytes for result in results] == [new, new]


async def test_a_model_comes_back_to_the_worker_that_had_it():
    async with running(budget=50) as pool:
        for name in ("a", "b", "a", "b", "a"):
            await use(pool, name)
            await pool.until(lambda: pool.states().get("warm"))
        assert len({swap.worker for swap in pool.swaps if swap.model == "a"}) == 1


async def test_whoever_wants_another_spec_than_the_one_that_loads_gets_it():
    async with running() as pool:
        pool.hold_loads = True
        old = asyncio.create_task(use(pool, "a", size=40))
        await pool.until(lambda: pool.states().get("loading"))
        pool.hold_loads = False
        new = asyncio.create_task(use(pool, "a", size=50))
        for worker in pool.workers:
            worker.hold_loads = False
        assert (await new).swap.device_bytes == (await old).swap.device_bytes == 50


async def test_a_shutdown_fails_what_waits_and_what_runs():
    async with running(budget=50) as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            waiting = asyncio.create_task(use(pool, "b"))
            await pool.until(lambda: pool.controller.snapshot().waiters)
            await pool.end()
            with pytest.raises(ShuttingDownError):
                await waiting
            assert isinstance(lease.client.failed, ShuttingDownError)
        for late in (use(pool, "a"), pool.controller.unload("a"), pool.controller.restart("w1")):
            with pytest.raises(ShuttingDownError):
                await late


async def test_what_was_asked_just_before_the_end_is_answered():
    async with running() as pool:
        await use(pool, "b")
        asked = [asyncio.create_task(use(pool, "a")), asyncio.create_task(pool.controller.unload("a"))]
        pool.task.cancel()
        async with asyncio.timeout(5):
            for task in asked:
                with pytest.raises((ShuttingDownError, NotFoundError)):
                    await task
