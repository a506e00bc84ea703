"""A profile of a real engine: vLLM's own profiler, through a worker that knew nothing of it at its start."""

import gzip
import json

import pytest

from tests.engine.helpers import ask, worker_of

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


async def test_the_steps_of_an_engine_are_recorded(workbench):
    await ask(workbench, "counter", "Count from 1 to 5")
    worker = worker_of(workbench, "counter").id
    profiles = workbench.pool_admin.profiles
    for number in (1, 2):
        profile = await profiles.start(worker, seconds=30, steps=10)
        await ask(workbench, "counter", f"Count from {number} to 30")
        profile = await profiles.stop(profile.name)
        assert profile.state == "ready", profile.error
        assert 0 < profile.bytes < 5 << 20
        trace = json.loads(gzip.decompress(profiles.trace(profile.name).read_bytes()))
        names = [event.get("name", "") for event in trace["traceEvents"]]
        steps = [name for name in names if name.startswith("execute_")]
        assert 5 <= len(steps) <= 12, "as many steps as were asked for"
        assert "aten::linear" in names or any("mm" in name for name in names)
    answer = await ask(workbench, "counter", "Count from 3 to 6")
    assert answer.text == "3, 4, 5, 6"
