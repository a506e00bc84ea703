"""What administrators order, with workers that only pretend."""

import asyncio

import pytest

from tests.pool.fakes import running, spec, use
from workbench.errors import ConflictError, InsufficientMemoryError, NotFoundError
from workbench.pool.states import WorkerState


async def worker_of(pool, model):
    return next(w.id for w in pool.controller.snapshot().workers if w.model == model)


async def test_a_question_names_the_work_in_flight():
    async with (
        running() as pool,
        pool.controller.ask(spec("a")) as one,
        pool.controller.ask(spec("a")) as two,
    ):
        await one.lease()
        await two.lease()
        with pytest.raises(ConflictError) as unload:
            await pool.controller.unload("a")
        assert str(unload.value) == "2 requests of a are being answered. To unload a cuts that off."
        with pytest.raises(ConflictError, match=r"2 requests of a are being answered\. To restart w1 cuts"):
            await pool.controller.restart("w1")
        with pytest.raises(
            ConflictError, match=r"^2 requests of a are being answered\. Drained, w1 finishes"
        ):
            await pool.controller.drain("w1")


async def test_a_drained_worker_finishes_its_work_and_the_model_is_loaded_elsewhere():
    async with running(max_workers=3) as pool:
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            old = await worker_of(pool, "a")
            await pool.controller.drain(old, force=True)
            newcomer = asyncio.create_task(use(pool, "a"))
            await pool.until(lambda: pool.controller.snapshot().waiters)
            assert "1 answer of a" in pool.controller.snapshot().waiters[0].progress.detail
            assert [w.draining for w in pool.controller.snapshot().workers if w.id == old] == [True]
            assert lease.client.failed is None
        again = await newcomer
        assert again.client is not lease.client
        assert await worker_of(pool, "a") != old
        await pool.until(lambda: old not in [w.id for w in pool.controller.snapshot().workers])
        gone = pool.controller.departures()[0]
        assert (gone.worker, gone.how, gone.expected) == (old, "was drained by an administrator", True)
        await pool.until(lambda: pool.states().get(WorkerState.WARM))  # a fresh spare


async def test_an_idle_worker_drains_without_a_question_and_one_that_holds_a_model_explains_itself():
    async with running() as pool:
        await pool.until(lambda: pool.states()[WorkerState.WARM])
        await pool.controller.drain("w1")
        await pool.until(lambda: pool.workers[0].state is WorkerState.DEAD)
        await use(pool, "a")
        held = await worker_of(pool, "a")
        with pytest.raises(ConflictError, match=f"{held} holds a, and nothing is in flight"):
            await pool.controller.drain(held)
        with pytest.raises(NotFoundError):
            await pool.controller.drain("w99")


async def test_the_load_of_a_drained_worker_moves_to_another_with_those_that_wait():
    async with running(max_workers=3) as pool:
        await pool.until(lambda: pool.states()[WorkerState.WARM])
        pool.workers[0].hold_loads = True
        asked = asyncio.create_task(use(pool, "a"))
        await pool.until(lambda: pool.workers[0].swaps)
        await pool.controller.drain("w1", force=True)
        await asked
        assert await worker_of(pool, "a") != "w1"
        assert pool.swaps[0].outcome == "cancelled"


async def test_a_pinned_model_stays_until_it_is_unloaded_by_hand():
    pinned = {"a"}
    async with running(pinned=pinned.__contains__) as pool:
        await use(pool, "a", 60)
        with pytest.raises(InsufficientMemoryError, match="but a is pinned"):
            await use(pool, "b", 60)
        assert pool.controller.snapshot().runners[0].pinned
        with pytest.raises(ConflictError, match="a is pinned, and stays so"):
            await pool.controller.unload("a")
        await pool.controller.unload("a", force=True)
        await use(pool, "b", 60)
        assert pool.on_device() == {"b"}


async def test_a_pin_that_is_taken_off_lets_others_in_at_once():
    pinned = {"a"}
    async with running(pinned=pinned.__contains__) as pool:
        await use(pool, "a", 60)
        assert pool.controller.giving_way()["device"].stays == {"a": "is pinned"}
        pinned.clear()
        pool.controller.reconsider()
        await use(pool, "b", 60)
        assert pool.on_device() == {"b"}


async def test_an_idle_model_is_put_to_sleep_by_hand_and_the_next_request_wakes_it():
    async with running(host_budget=1000) as pool:
        await use(pool, "a")
        await pool.controller.sleep("a")
        await pool.until(lambda: pool.runners() == {"a": "asleep"})
        await pool.controller.sleep("a")  # it does already
        assert [call for call in pool.client_of["a"].calls if call[0] == "sleep"] == [("sleep", 1)]
        await use(pool, "a")
        assert pool.runners() == {"a": "serving"}


async def test_a_pinned_model_that_sleeps_stays_pinned():
    async with running(host_budget=1000, pinned={"a"}.__contains__) as pool:
        await use(pool, "a")
        await pool.controller.sleep("a")
        await pool.until(lambda: pool.runners() == {"a": "asleep"})
        assert pool.controller.snapshot().runners[0].pinned


async def test_without_host_memory_for_its_weights_a_model_sleeps_at_level_2():
    async with running(host_budget=10) as pool:
        await use(pool, "a")
        await pool.controller.sleep("a")
        await pool.until(lambda: pool.runners() == {"a": "asleep"})
        assert ("sleep", 2) in pool.client_of["a"].calls


async def test_what_does_not_sleep_is_told_apart():
    async with running(host_budget=1000) as pool:
        with pytest.raises(NotFoundError, match="a is not on a device"):
            await pool.controller.sleep("a")
        async with pool.controller.ask(spec("a")) as ticket:
            lease = await ticket.lease()
            with pytest.raises(ConflictError, match=r"1 request of a is being answered\. a can sleep once"):
                await pool.controller.sleep("a")
            assert lease.client.failed is None
            await pool.controller.drain(await worker_of(pool, "a"), force=True)
            with pytest.raises(ConflictError, match="is being drained"):
                await pool.controller.sleep("a")
    async with running() as pool:
        await use(pool, "a")
        with pytest.raises(ConflictError, match="a can't sleep: models don't sleep on this device"):
            await pool.controller.sleep("a")
    async with running(host_budget=1000) as pool:
        pool.hold_loads = True
        for worker in pool.workers:
            worker.hold_loads = True
        loading = asyncio.create_task(use(pool, "a"))
        await pool.until(lambda: pool.runners() == {"a": "loading"})
        with pytest.raises(ConflictError, match="on its way"):
            await pool.controller.sleep("a")
        loading.cancel()
