"""`GET /metrics` for Prometheus: ours, and vLLM's own for every model with the label `model`."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from fastapi import APIRouter, HTTPException, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

import workbench
from workbench.api.access_log import ApiRequest
from workbench.errors import ShuttingDownError
from workbench.pool.states import WorkerState
from workbench.service import Workbench
from workbench.telemetry.metrics import REQUEST_BUCKETS, merged
from workbench.values import KvCacheView, ModelView, PoolSnapshot


class MetricsPage:
    """What `/metrics` shows, made anew for each scrape, and the counters of requests of the API."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "workbench_api_requests",
            "Requests of the API that ended.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "workbench_api_request_seconds",
            "Time of requests of the API, to the last byte.",
            ("route",),
            buckets=REQUEST_BUCKETS,
            registry=self._registry,
        )

    def on_api_request(self, request: ApiRequest) -> None:
        """Count a request of the API that has ended."""
        self._requests.labels(request.route, request.method, request.status).inc()
        self._seconds.labels(request.route).observe(request.seconds)

    def router(self) -> APIRouter:
        """The route `/metrics`."""
        router = APIRouter()

        @router.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            try:
                families = _Families(await self._collect())
            except ShuttingDownError as error:
                raise HTTPException(503, str(error)) from error
            # Not OpenMetrics, whatever is asked for: its encoder writes vllm_… for vLLM's names.
            body = await asyncio.to_thread(generate_latest, families)
            return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)

        return router

    async def _collect(self) -> Iterator[Metric]:
        counted = self._workbench.measurements.metrics.parts()
        caches = await self._workbench.kv_caches()
        pool = pool_families(self._workbench.pool(), self._workbench.models)
        now = (build_family(), *pool, *kv_families(caches))
        return merged((({}, now), ({}, self._registry.collect()), *counted))


class _Families:
    """Families as the encoder of prometheus_client takes them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def build_family() -> Metric:
    """The version, as a label of a constant."""
    family = GaugeMetricFamily("workbench_build_info", "Version of Workbench; always 1.", labels=("version",))
    family.add_metric((workbench.__version__,), 1)
    return family


def pool_families(pool: PoolSnapshot, models: Sequence[ModelView]) -> Iterator[Metric]:
    """Queue, workers, models and budgets at this moment."""
    now = time.monotonic()
    yield _gauge(
        "workbench_queue_requests",
        "Requests that wait for a model.",
        ("model",),
        (((waiter.model,), waiter.count) for waiter in pool.waiters),
        zeros=((model.name,) for model in models),
    )
    yield _gauge(
        "workbench_queue_longest_wait_seconds",
        "For how long the first request for a model has waited.",
        ("model",),
        (((waiter.model,), now - waiter.since) for waiter in pool.waiters),
    )
    yield _gauge(
        "workbench_workers",
        "Worker processes.",
        ("device", "state"),
        (((worker.device, worker.state), 1) for worker in pool.workers),
        zeros=product((device.id for device in pool.devices), map(str, WorkerState)),
    )
    yield _gauge(
        "workbench_workers_private_bytes",
        "Host memory of worker processes, without mapped files.",
        ("device",),
        (((worker.device,), worker.private_bytes) for worker in pool.workers),
    )
    yield _gauge(
        "workbench_models_held",
        "Models that workers hold, by state: 1 for the one that a model is in.",
        ("model", "device", "state"),
        (((runner.model, runner.device, runner.state), 1) for runner in pool.runners),
    )
    yield _gauge(
        "workbench_requests_in_flight",
        "Requests that have their model.",
        ("model",),
        (((runner.model,), runner.in_flight) for runner in pool.runners),
    )
    for name, help_text, attribute in (
        ("workbench_device_budget_bytes", "What a device may hold of weights and KV caches.", "budget_bytes"),
        ("workbench_device_used_bytes", "What models take of a device's budget.", "used_bytes"),
        (
            "workbench_host_budget_bytes",
            "Pinned host memory that models of a device may sleep in.",
            "host_budget_bytes",
        ),
        ("workbench_host_used_bytes", "What models asleep take of that.", "host_used_bytes"),
    ):
        yield _gauge(
            name,
            help_text,
            ("device",),
            (((device.id,), getattr(device, attribute)) for device in pool.devices),
        )


def kv_families(caches: Sequence[KvCacheView]) -> Iterator[Metric]:
    """KV caches of serving models: what is held, and what of it holds no tokens."""
    seen = [(cache.model, cache.snapshot) for cache in caches if cache.snapshot is not None]
    yield _gauge(
        "workbench_kv_cache_bytes",
        "Size of a model's KV cache.",
        ("model",),
        (((model,), kv.usable_blocks * kv.block_bytes) for model, kv in seen),
    )
    yield _gauge(
        "workbench_kv_held_bytes",
        "Blocks of the KV cache that requests hold.",
        ("model",),
        (((model,), kv.paged.bytes) for model, kv in seen),
    )
    yield _gauge(
        "workbench_kv_waste_bytes",
        "What of the held blocks holds no tokens.",
        ("model",),
        (((model,), kv.paged.wasted_bytes) for model, kv in seen),
    )
    yield _gauge(
        "workbench_kv_unpaged_waste_bytes",
        "What the same requests would waste if each had room for the longest one.",
        ("model",),
        (((model,), kv.contiguous.wasted_bytes) for model, kv in seen),
    )


def _gauge(
    name: str,
    help_text: str,
    labels: Sequence[str],
    values: Iterable[tuple[tuple[str, ...], float]],
    zeros: Iterable[tuple[str, ...]] = (),
) -> Metric:
    """A gauge; values with the same labels are added up, and those of `zeros` are there in any case."""
    sums: dict[tuple[str, ...], float] = dict.fromkeys(zeros, 0)
    for key, value in values:
        sums[key] = sums.get(key, 0) + value
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in sums.items():
        family.add_metric(key, value)
    return family
