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
