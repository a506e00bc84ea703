"""The order in which an engine takes up what waits for it."""

import asyncio

import pytest
import pytest_asyncio

from tests.engine.helpers import GREEDY, until
from workbench.pool.scheduling import Claim, Scheduler

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

ONE_AT_A_TIME = {"max_num_seqs": 1}


@pytest_asyncio.fixture(loop_scope="session")
async def counter(workbench, monkeypatch):
    """A model that answers one request at a time, in a pool that goes by priority."""
    monkeypatch.setattr(workbench._controller._queue, "_scheduler", Scheduler("priority", 60.0))
    workbench.catalog.update_model("counter", engine_args=ONE_AT_A_TIME)
    await workbench._library._refresh()
    yield await workbench._library.servable("counter")
    workbench.catalog.update_model("counter", engine_args={})
    await workbench._library._refresh()


async def test_the_most_urgent_request_goes_first_in_the_engine_too(workbench, counter):
    started = []

    async def answer(name, priority, last):
        async with workbench._controller.ask(counter, Claim(priority)) as ticket:
            lease = await ticket.lease()
            messages = [{"role": "user", "content": f"Count from 1 to {last}"}]
            async for _ in lease.client.generate(messages, GREEDY, name, priority=lease.priority):
                if name not in started:
                    started.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(answer("first", 0, 90))
        await until(lambda: started == ["first"])
        for name, priority in (("patient", 5), ("usual", 0), ("urgent", -5)):
            group.create_task(answer(name, priority, 30))
    assert started == ["first", "urgent", "usual", "patient"]
