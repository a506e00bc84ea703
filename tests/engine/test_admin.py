"""The admin API over a real engine: loads, sleep, and a profile by vLLM's own profiler."""

import gzip
import json

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from tests.engine.helpers import ask, until
from workbench.api.admin import admin_router

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def admin(workbench):
    app = FastAPI()
    app.include_router(admin_router(workbench))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test/admin", timeout=60) as client:
        yield client


async def residency(admin, model):
    return (await admin.get(f"/models/{model}")).json()["residency"]


async def test_a_model_is_loaded_put_to_sleep_woken_and_unloaded(workbench, admin):
    if await residency(admin, "counter") != "disk":
        await admin.post("/models/counter/unload")
        await until(lambda: workbench.model("counter").residency == "disk")
    assert (await admin.post("/models/counter/load")).json()["residency"] == "device"
    runner = next(runner for runner in workbench._controller._runners if runner.spec.name == "counter")
    slept = await admin.post("/models/counter/sleep")
    if runner.can_sleep:
        assert slept.status_code == 202
        await until(lambda: workbench.model("counter").residency == "asleep")
    else:  # its weights are not prepared yet
        assert slept.status_code == 409
        assert "can't sleep" in slept.json()["error"]["message"]
    assert (await admin.post("/models/counter/wake")).json()["residency"] == "device"
    assert (await ask(workbench, "counter", "Count from 3 to 6")).text == "3, 4, 5, 6"
    status = (await admin.get("/status")).json()
    assert status["versions"]["vllm"].startswith("0.32.0")
    assert "counter" in {runner["model"] for runner in status["runners"]}
    await workbench.measurements.close()  # stored
    assert (await admin.get("/requests?limit=1")).json()["data"][0]["model"] == "counter"


async def test_the_steps_of_an_engine_are_recorded(workbench, admin):
    """By a worker that knew nothing of profiles when it loaded the model, and twice."""
    await ask(workbench, "counter", "Count from 1 to 5")
    workers = (await admin.get("/workers")).json()["data"]
    worker = next(worker["id"] for worker in workers if worker["model"] == "counter")
    for first in (1, 2):
        begun = await admin.post(f"/workers/{worker}/profile", json={"seconds": 30, "steps": 10})
        assert begun.status_code == 202, begun.text
        await ask(workbench, "counter", f"Count from {first} to 30")
        name = begun.json()["name"]
        profile = (await admin.post(f"/profiles/{name}/stop")).json()
        assert profile["state"] == "ready", profile
        response = await admin.get(f"/profiles/{name}/trace")
        assert len(response.content) == profile["bytes"] < 5 << 20
        trace = json.loads(gzip.decompress(response.content))
        names = [event.get("name", "") for event in trace["traceEvents"]]
        steps = [name for name in names if name.startswith("execute_")]
        assert 5 <= len(steps) <= 12, "as many steps as were asked for"
        assert "aten::embedding" in names
    assert (await ask(workbench, "counter", "Count from 3 to 6")).text == "3, 4, 5, 6"
