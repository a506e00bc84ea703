"""Requests that wait, in the order that the pool lets them go ahead, over workers that pretend."""

import asyncio
import contextlib

import pytest

from tests.pool.fakes import running, spec, use
from workbench.errors import InsufficientMemoryError, UnavailableError
from workbench.pool.scheduling import Claim


async def waiting(stack, pool, model, claim):
    """A request that has come to the pool, and waits there."""
    before = len(pool.controller._queue)
    ticket = await stack.enter_async_context(pool.controller.ask(spec(model), claim))
    await pool.until(lambda: len(pool.controller._queue) == before + 1)
    return ticket


@pytest.mark.parametrize(("scheduling", "first"), [("fcfs", "b"), ("priority", "c")])
async def test_the_order_of_requests_is_that_of_switches(scheduling, first):
    """Room for one model: while it is busy, b is asked for, and then, with more urgency, c."""
    async with running(budget=50, scheduling=scheduling) as pool, contextlib.AsyncExitStack() as stack:
        async with pool.controller.ask(spec("a")) as ticket:
            await ticket.lease()
            b = await waiting(stack, pool, "b", Claim(priority=1))
            c = await waiting(stack, pool, "c", Claim(priority=-1))
        done, _ = await asyncio.wait(
            [asyncio.ensure_future(b.lease()), asyncio.ensure_future(c.lease())],
            timeout=5,
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert len(done) == 1
        assert pool.on_device() == {first}


async def test_a_lease_carries_its_place_to_the_engine():
    async with running(scheduling="priority") as pool, contextlib.AsyncExitStack() as stack:
        await use(pool, "a")
        leases = []
        for priority in (7, 0, -7):
            ticket = await stack.enter_async_context(pool.controller.ask(spec("a"), Claim(priority)))
            leases.append(await ticket.lease())
        priorities = [lease.priority for lease in leases]
        assert priorities == sorted(priorities, reverse=True)
    async with running() as pool, contextlib.AsyncExitStack() as stack:
        tickets = [
            await stack.enter_async_context(pool.controller.ask(spec("a"), Claim(priority)))
            for priority in (7, 0, -7)
        ]
        priorities = [(await ticket.lease()).priority for ticket in tickets]
        assert priorities == sorted(priorities), "by arrival"


async def test_who_leaves_early_or_is_refused_has_used_no_share():
    async with running(budget=50, scheduling="fair", max_queued=1) as pool:
        claim = Claim(owner="me", expected_tokens=10_000)
        async with pool.controller.ask(spec("a")) as held:
            await held.lease()
            scheduler = pool.controller._queue._scheduler
            async with contextlib.AsyncExitStack() as stack:
                await waiting(stack, pool, "b", claim)
                async with pool.controller.ask(spec("c"), claim) as third:
                    with pytest.raises(UnavailableError, match="1 requests wait"):
                        await third.lease()
            await pool.until(lambda: not len(pool.controller._queue))
            async with pool.controller.ask(spec("huge", 60), claim) as refused:
                with pytest.raises(InsufficientMemoryError):
                    await refused.lease()
            await pool.until(lambda: scheduler._present == 1)
            async with pool.controller.ask(spec("a"), claim) as ticket:
                lease = await ticket.lease()
                assert lease.priority == round(ticket.since * 1e6), "no delay"
        await pool.until(lambda: scheduler._present == 0)
