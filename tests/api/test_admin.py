"""The admin API, over a real catalog and pool whose engines only pretend."""

import asyncio
import gzip

import httpx
import pytest
from fastapi import FastAPI

from tests.api.pretended import pretended
from tests.api.pretended import until as happened
from workbench.api.admin import admin_router, health_router
from workbench.catalog.tables import Request
from workbench.pool.scheduling import Claim

JSON = {"content-type": "application/json"}


@pytest.fixture
async def workbench(tmp_path):
    async with pretended(tmp_path, scheduling="priority") as running:
        yield running


@pytest.fixture
def app(workbench):
    app = FastAPI()
    app.include_router(health_router(workbench))
    app.include_router(admin_router(workbench))
    return app


@pytest.fixture(scope="module")
def nothing_behind():
    """The routes alone."""
    app = FastAPI()
    app.include_router(admin_router(None))
    return app


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=10) as client:
        yield client


async def asked(client, method, path, status=200, **about):
    """What is answered, which must have that status; an error's message where it is one."""
    response = await client.request(method, path, **about)
    assert response.status_code == status, response.text
    body = response.json()
    return body["error"]["message"] if status >= 400 else body


async def until(client, path, condition):
    async with asyncio.timeout(5):
        while not condition(found := await asked(client, "GET", path)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def worker_of(client, model):
    workers = (await asked(client, "GET", "/admin/workers"))["data"]
    return next(worker for worker in workers if worker["model"] == model)


async def test_health_and_status_say_what_is_there(client):
    assert await asked(client, "GET", "/health") == {"status": "ok", "warm": True}
    await asked(client, "POST", "/admin/models/adder/load")
    status = await asked(client, "GET", "/admin/status")
    assert status["versions"].keys() == {"workbench", "vllm", "python"}
    assert all(status["versions"].values())
    assert status["uptime_s"] > 0
    assert (status["scheduling"], status["in_flight"], status["waiting"]) == ("priority", 0, 0)
    assert [runner["model"] for runner in status["runners"]] == ["adder"]
    assert status["workers"]["serving"] == 1
    assert status["devices"][0]["budget_bytes"] > status["devices"][0]["used_bytes"] > 0


async def test_a_model_is_loaded_put_to_sleep_woken_and_unloaded(client, workbench):
    assert (await asked(client, "GET", "/admin/models/adder"))["residency"] == "disk"
    assert (await asked(client, "POST", "/admin/models/adder/load"))["residency"] == "device"
    runner = next(iter(workbench._controller._runners))
    runner.can_sleep = False  # as where no weights are prepared
    assert "can't sleep" in await asked(client, "POST", "/admin/models/adder/sleep", 409)
    runner.can_sleep = True
    assert (await asked(client, "POST", "/admin/models/adder/sleep", 202))["residency"] == "sleeping"
    await until(client, "/admin/models/adder", lambda model: model["residency"] == "asleep")
    assert (await asked(client, "POST", "/admin/models/adder/sleep", 202))["residency"] == "asleep"
    assert (await asked(client, "POST", "/admin/models/adder/wake"))["residency"] == "device"
    assert workbench.client("adder").calls == [("sleep", 1), ("wake",)]
    assert (await asked(client, "POST", "/admin/models/adder/unload", 202))["residency"] != "device"
    await until(client, "/admin/models/adder", lambda model: model["residency"] == "disk")
    assert "not on a device" in await asked(client, "POST", "/admin/models/adder/unload", 404)
    assert "not on a device" in await asked(client, "POST", "/admin/models/adder/sleep", 404)


async def test_what_would_cut_off_an_answer_is_refused(client, workbench):
    async with workbench._controller.ask(await workbench._library.servable("adder")) as ticket:
        lease = await ticket.lease()
        assert "1 request of adder is" in await asked(client, "POST", "/admin/models/adder/unload", 409)
        assert "can sleep once that is over" in await asked(client, "POST", "/admin/models/adder/sleep", 409)
        worker = await worker_of(client, "adder")
        assert worker["in_flight"] == 1
        assert "cuts that off" in await asked(client, "POST", f"/admin/workers/{worker['id']}/restart", 409)
        assert lease.client.failed is None
        drained = await asked(client, "POST", f"/admin/workers/{worker['id']}/drain?force=true", 202)
        assert drained["draining"]
        await asked(client, "POST", f"/admin/workers/{worker['id']}/restart?force=true", 202)
        assert "was restarted by an administrator" in str(lease.client.failed)
    assert await asked(client, "POST", "/admin/workers/w99/restart", 404)
    assert await asked(client, "POST", "/admin/workers/w99/drain", 404)


async def test_a_pin_is_a_reason_that_force_sets_aside(client):
    assert (await asked(client, "POST", "/admin/models/adder/pin"))["pinned"]
    await asked(client, "POST", "/admin/models/adder/load")
    assert "is pinned" in await asked(client, "POST", "/admin/models/adder/unload", 409)
    await asked(client, "POST", "/admin/models/adder/unload?force=true", 202)
    assert not (await asked(client, "POST", "/admin/models/adder/unpin"))["pinned"]
    assert "no model" in await asked(client, "POST", "/admin/models/nobody/pin", 404)


async def test_models_come_and_go(client, tmp_path):
    named = {model["name"] for model in (await asked(client, "GET", "/admin/models"))["data"]}
    assert {"adder", "counter", "storyteller"} <= named
    folder = (await asked(client, "GET", "/admin/models/adder"))["source"]
    body = {"folder": folder, "name": "team/adder:two"}
    added = await asked(client, "POST", "/admin/models/local", 201, json=body)
    assert added["name"] == "team/adder:two"
    assert await asked(client, "GET", "/admin/models/team%2Fadder%3Atwo") == added
    assert (await asked(client, "POST", "/admin/models/team/adder:two/load"))["residency"] == "device"
    assert "Unload it first" in await asked(client, "DELETE", "/admin/models/team/adder:two", 409)
    assert "already" in await asked(client, "POST", "/admin/models/local", 409, json=body)
    await asked(client, "POST", "/admin/models/team/adder:two/unload", 202)
    await until(client, "/admin/models/team/adder:two", lambda model: model["residency"] == "disk")
    removed = await asked(client, "DELETE", "/admin/models/team/adder:two")
    assert removed == {"name": "team/adder:two", "removed": True}
    assert await asked(client, "GET", "/admin/models/team/adder:two", 404)
    assert await asked(client, "DELETE", "/admin/models/team/adder:two", 404)
    for folder in ("/etc", "~nobody-of-that-name/x", "x" * 1000, str(tmp_path / "none")):
        assert await asked(client, "POST", "/admin/models/local", 400, json={"folder": folder})
    assert "organisation/name" in await asked(client, "POST", "/admin/models/hub", 400, json={"repo_id": "x"})
    assert await asked(client, "POST", "/admin/models/nobody/download", 404)
    assert await asked(client, "POST", "/admin/models/nobody/cancel", 404)


@pytest.mark.parametrize(
    ("method", "path", "about", "param"),
    [
        ("POST", "/admin/models/local", {"json": {"folder": 3}}, "folder"),
        ("POST", "/admin/models/local", {"json": {"folder": "a\0b"}}, "folder"),
        ("POST", "/admin/models/local", {"json": {"folder": "a", "run": "b"}}, "run"),
        (
            "POST",
            "/admin/models/local",
            {"content": b"{", "headers": JSON},
            "1",
        ),
        (
            "POST",
            "/admin/models/local",
            {"content": b"\xff", "headers": JSON},
            None,
        ),
        ("GET", "/admin/models/%00", {}, "name"),
        ("POST", "/admin/models/a%0Ab/load", {}, "name"),
        ("GET", f"/admin/models/{'x' * 97}", {}, "name"),
        ("POST", "/admin/models/adder/unload?force=maybe", {}, "force"),
        ("GET", "/admin/workers/..%5C..%5Cetc/log", {}, "id"),
        ("GET", f"/admin/requests?before={2**63}", {}, "before"),
        ("GET", "/admin/swaps?limit=0", {}, "limit"),
        ("POST", "/admin/workers/w1/profile", {"json": {"seconds": 61}}, "seconds"),
    ],
)
async def test_what_does_not_fit_the_description_is_refused(nothing_behind, method, path, about, param):
    transport = httpx.ASGITransport(nothing_behind)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.request(method, path, **about)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"].startswith("The request can't be")


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/admin/models/adder", 405, "DELETE, GET"),
        ("GET", "/admin/workers/w1/drain", 405, "POST"),
        ("OPTIONS", "/admin/status", 405, "GET"),
        ("PUT", "/admin/models/adder/load", 405, "POST"),
        ("GET", "/admin/nothing", 404, None),
        ("POST", "/admin/models/adder/explode", 405, "DELETE, GET"),
    ],
)
async def test_what_is_not_there_is_said_in_the_same_format(nothing_behind, method, path, status, allowed):
    transport = httpx.ASGITransport(nothing_behind)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.request(method, path)
    assert (response.status_code, response.headers.get("allow")) == (status, allowed)
    assert response.json()["error"]["message"]


async def test_the_queue_is_in_the_order_of_scheduling(client, workbench):
    workbench.hold_loads = True
    for worker in workbench.workers.values():
        worker.hold_loads = True
    spec = await workbench._library.servable("adder")
    ask = workbench._controller.ask
    async with ask(spec, Claim(5, "patient", 100)), ask(spec, Claim(-5, "urgent", 7)):
        queue = (await until(client, "/admin/queue", lambda queue: len(queue["data"]) == 2))["data"]
    assert [(request["owner"], request["priority"], request["expected_tokens"]) for request in queue] == [
        ("urgent", -5, 7),
        ("patient", 5, 100),
    ]
    assert queue[0]["model"] == "adder"
    assert queue[1]["waiting_s"] > 0
    assert queue[0]["progress"]["detail"]


async def test_a_load_is_given_up_with_its_client(workbench, app):
    """A client of its own: httpx's transport tells of a left client only when a response has begun."""
    for worker in workbench.workers.values():
        worker.hold_loads = True
    left = asyncio.Event()
    sent = []

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/admin/models/adder/load",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "server": ("test", 80),
    }
    call = asyncio.ensure_future(app(scope, receive, send))
    await happened(lambda: workbench.pool().runners)
    assert not call.done()
    left.set()
    await asyncio.wait_for(call, 5)
    assert sent[0]["status"] == 499
    await happened(lambda: not workbench.pool().runners)
    await workbench.measurements.close()  # what was measured is stored
    assert workbench.catalog.recent_swaps(1)[0].outcome == "cancelled"


async def test_records_come_in_pages(client, workbench):
    for number in range(5):
        row = Request(request_id=f"r{number}", model="adder", finish_reason="stop", completion_tokens=number)
        await workbench.measurements.record_request(row)
    first = await asked(client, "GET", "/admin/requests?limit=2")
    assert [row["request_id"] for row in first["data"]] == ["r4", "r3"]
    assert first["has_more"]
    second = await asked(client, "GET", f"/admin/requests?limit=3&before={first['data'][-1]['id']}")
    assert [row["request_id"] for row in second["data"]] == ["r2", "r1", "r0"]
    assert not second["has_more"]
    await asked(client, "POST", "/admin/models/adder/load")
    swaps = await until(client, "/admin/swaps", lambda swaps: swaps["data"])
    (swap,) = swaps["data"]
    assert (swap["model"], swap["outcome"], swaps["has_more"]) == ("adder", "ok", False)
    assert not (await asked(client, "GET", f"/admin/swaps?before={swap['id']}"))["data"]


async def test_the_end_of_a_workers_log(client, workbench):
    worker = next(iter(workbench.workers))
    log = workbench.settings.worker_log(worker)
    assert "has no log" in await asked(client, "GET", f"/admin/workers/{worker}/log", 404)
    log.mkdir(parents=True)
    assert "can't be read" in await asked(client, "GET", f"/admin/workers/{worker}/log", 503)
    log.rmdir()
    log.write_text("".join(f"line {number}\n" for number in range(200)) + "and no end")
    read = await asked(client, "GET", f"/admin/workers/{worker}/log?lines=3")
    assert read == {"worker": worker, "lines": ["line 198", "line 199", "and no end"]}
    assert len((await asked(client, "GET", f"/admin/workers/{worker}/log"))["lines"]) == 100
    assert "no worker w99" in await asked(client, "GET", "/admin/workers/w99/log", 404)


async def test_a_profile_is_recorded_and_downloaded(client, workbench):
    worker = next(iter(workbench.workers))
    assert "serves no model" in await asked(client, "POST", f"/admin/workers/{worker}/profile", 409)
    assert await asked(client, "POST", "/admin/workers/w99/profile", 404)
    await asked(client, "POST", "/admin/models/adder/load")
    serving = (await worker_of(client, "adder"))["id"]
    begun = await asked(client, "POST", f"/admin/workers/{serving}/profile", 202, json={"seconds": 60})
    assert begun | {"worker": serving, "model": "adder", "state": "recording", "steps": 100} == begun
    name = begun["name"]
    assert "already" in await asked(client, "POST", f"/admin/workers/{serving}/profile", 409)
    assert "still being recorded" in await asked(client, "GET", f"/admin/profiles/{name}/trace", 409)
    ready = await asked(client, "POST", f"/admin/profiles/{name}/stop")
    assert ready["state"] == "ready"
    assert ready["bytes"] > 0
    assert (await asked(client, "GET", "/admin/profiles"))["data"] == [ready]
    assert await asked(client, "GET", f"/admin/profiles/{name}") == ready
    trace = await client.get(f"/admin/profiles/{name}/trace")
    assert trace.headers["content-type"] == "application/gzip"
    assert f'filename="{name}.json.gz"' in trace.headers["content-disposition"]
    assert gzip.decompress(trace.content) == b'{"traceEvents": []}'
    assert await asked(client, "GET", "/admin/profiles/none", 404)
    assert await asked(client, "GET", "/admin/profiles/none/trace", 404)
    assert [path.name for path in workbench.settings.profiles_dir.iterdir()] == [f"{name}.json.gz"]


async def test_the_description_is_complete(app):
    description = app.openapi()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 20
    for name, operation in operations:
        assert operation["summary"], name
        good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        assert len(good) == 1, name
        (content,) = good[0]["content"].values()
        assert content["schema"], name
        bad = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        assert {"400", "503", "4XX"} <= bad.keys(), name
        assert "422" not in bad, name
        for answer in bad.values():
            assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
        assert ("{" in name) == ("404" in bad), name
