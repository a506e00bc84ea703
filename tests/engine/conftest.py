"""One Workbench for most tests of the real engine, with a budget that holds one demo model at a time."""

import pytest_asyncio

from tests.engine.helpers import start_workbench


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workbench(tmp_path_factory):
    async with start_workbench(tmp_path_factory.mktemp("data"), memory_budget=100 << 20) as running:
        yield running
