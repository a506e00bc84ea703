"""The page that Prometheus reads, over a workbench without an engine."""

import time

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.made_up_kv import request, snapshot
from tests.promlint import problems
from tests.ui.fake_workbench import FakeWorkbench
from workbench.api.access_log import ApiRequest
from workbench.api.metrics import MetricsPage
from workbench.values import KvCacheView, Progress, WaiterSnapshot


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(step_s=0)


@pytest.fixture
def page(workbench: FakeWorkbench) -> MetricsPage:
    return MetricsPage(workbench)


@pytest.fixture
def client(page: MetricsPage) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(page.router())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def samples(client: httpx.AsyncClient) -> dict[tuple, float]:
    text = (await client.get("/metrics")).text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


async def test_names_are_as_promtool_wants_them(client: httpx.AsyncClient, page: MetricsPage):
    page.on_api_request(ApiRequest("POST", "/v1/chat/completions", "/v1/chat/completions", 200, 0.2))
    assert problems((await client.get("/metrics")).text) == []


async def test_the_pool_is_told_as_it_is_now(client: httpx.AsyncClient, workbench: FakeWorkbench):
    await workbench.load("adder")
    workbench.waiters = (
        WaiterSnapshot("storyteller", 3, time.monotonic() - 4.5, Progress("queued", "Queued")),
    )
    found = await samples(client)
    assert found["workbench_queue_requests", "storyteller"] == 3
    assert found["workbench_queue_requests", "adder"] == 0
    assert 4.5 < found["workbench_queue_longest_wait_seconds", "storyteller"] < 10
    assert found["workbench_workers", "cpu", "serving"] == 1
    assert found["workbench_workers", "cpu", "warm"] == 1
    assert found["workbench_workers", "cpu", "dead"] == 0
    assert found["workbench_models_held", "adder", "cpu", "serving"] == 1
    assert found["workbench_device_budget_bytes", "cpu"] == 400_000_000
    assert found["workbench_device_used_bytes", "cpu"] == workbench.pool().devices[0].used_bytes
    await workbench.unload("adder")
    assert ("workbench_models_held", "adder", "cpu", "serving") not in await samples(client)


async def test_what_a_kv_cache_wastes_is_told(client: httpx.AsyncClient, workbench: FakeWorkbench):
    kv = snapshot(20, [request(1, [3, 4])])
    workbench.kv = [KvCacheView("adder", kv), KvCacheView("counter", None)]
    found = await samples(client)
    assert found["workbench_kv_cache_bytes", "adder"] == kv.usable_blocks * kv.block_bytes
    assert found["workbench_kv_held_bytes", "adder"] == kv.paged.bytes > 0
    assert found["workbench_kv_waste_bytes", "adder"] == kv.paged.wasted_bytes > 0
    assert found["workbench_kv_unpaged_waste_bytes", "adder"] == kv.contiguous.wasted_bytes
    assert ("workbench_kv_cache_bytes", "counter") not in found


async def test_requests_of_the_api_are_counted_by_route_and_status(
    client: httpx.AsyncClient, page: MetricsPage
):
    for status in (200, 200, 503):
        page.on_api_request(ApiRequest("GET", "/v1/models/a", "/v1/models/{name}", status, 0.2))
    found = await samples(client)
    assert found["workbench_api_requests_total", "/v1/models/{name}", "200", "GET"] == 2
    assert found["workbench_api_requests_total", "/v1/models/{name}", "503", "GET"] == 1
    assert found["workbench_api_request_seconds_count", "/v1/models/{name}"] == 3


async def test_one_format_is_spoken_whatever_is_asked_for(client: httpx.AsyncClient):
    """The client library's OpenMetrics would have other names for vLLM's metrics."""
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
