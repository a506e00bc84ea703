"""vLLM's own metrics for every model, beside ours, and in step with what was asked."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.helpers import ask, until
from tests.grafana import names, samples_of, selected_labels
from workbench.api.metrics import MetricsPage
from workbench.engine.metrics import ModelCollectors


def sample(collectors: ModelCollectors, name: str) -> list[float]:
    return [s.value for family in collectors.collect() for s in family.samples if s.name == name]


def test_a_model_that_comes_again_goes_on_counting():
    model = ModelCollectors()
    for _ in range(2):
        engine = model.begin()
        model.made(Counter, "vllm:tokens", "Tokens.", labelnames=["engine"]).labels("0").inc()
        model.made(Gauge, "vllm:running", "Running.", labelnames=["engine"]).labels("0").set(3)
        assert sample(model, "vllm:running") == [3]
        model.end(engine)
        assert sample(model, "vllm:running") == [], "nothing runs in an engine that is gone"
    assert sample(model, "vllm:tokens_total") == [2]


def test_an_engine_that_goes_late_leaves_the_next_ones_gauges():
    model = ModelCollectors()
    first = model.begin()
    model.begin()
    model.made(Gauge, "vllm:running", "Running.", labelnames=["engine"]).labels("0").set(3)
    model.end(first)
    assert sample(model, "vllm:running") == [3]


def test_other_buckets_begin_anew():
    model = ModelCollectors()
    model.made(Histogram, "vllm:prompt", "Prompt.", buckets=[1, 2]).observe(1)
    model.made(Histogram, "vllm:prompt", "Prompt.", buckets=[1, 2]).observe(1)
    assert sample(model, "vllm:prompt_count") == [2]
    model.made(Histogram, "vllm:prompt", "Prompt.", buckets=[1, 2, 4])
    assert sample(model, "vllm:prompt_count") == [0]


class Scrapes:
    def __init__(self, workbench) -> None:
        app = FastAPI()
        app.include_router(MetricsPage(workbench).router())
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

    async def families(self) -> list[Metric]:
        return list(text_string_to_metric_families((await self._client.get("/metrics")).text))

    async def read(self, model: str) -> dict[str, float]:
        """Sums of a model's samples, by name; fails on a family, or a sample, that is there twice."""
        sums: dict[str, float] = {}
        names, seen = set(), set()
        for family in await self.families():
            assert family.name not in names, family.name
            names.add(family.name)
            for one in family.samples:
                key = (one.name, *sorted(one.labels.items()))
                assert key not in seen, key
                seen.add(key)
                if one.labels.get("model") == model:
                    sums[one.name] = sums.get(one.name, 0) + one.value
        return sums


COUNTED = ("workbench_requests_total", "workbench_requests_finished_total", "vllm:request_success_total")
TOKENS = ("workbench_completion_tokens_total", "vllm:generation_tokens_total")
TIMED = (
    "workbench_time_to_first_token_seconds_count",
    "workbench_request_seconds_count",
    "vllm:time_to_first_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
)


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="session")
async def test_every_model_has_its_figures_and_they_are_right(workbench):
    scrapes = Scrapes(workbench)
    before = {model: await scrapes.read(model) for model in ("adder", "counter")}
    answers = {"adder": [], "counter": []}
    for model, texts in (("adder", ("1+1", "2+2")), ("counter", ("Count from 1 to 9",)), ("adder", ("3+3",))):
        answers[model] += await asyncio.gather(*(ask(workbench, model, text) for text in texts))
    for model, given in answers.items():
        now = await scrapes.read(model)
        grown = {name: now[name] - before[model].get(name, 0) for name in (*COUNTED, *TOKENS, *TIMED)}
        tokens = sum(answer.stats.completion_tokens for answer in given)
        assert grown == dict.fromkeys((*COUNTED, *TIMED), len(given)) | dict.fromkeys(TOKENS, tokens)
        assert now["workbench_switches_total"] > before[model].get("workbench_switches_total", 0)

    assert (await scrapes.read("adder"))["vllm:num_requests_running"] == 0
    await workbench.unload("adder")
    await until(lambda: all(runner.model != "adder" for runner in workbench.pool().runners))
    gone = await scrapes.read("adder")
    assert not {name for name in gone if name.startswith("vllm:num_requests")}
    assert "workbench_kv_cache_bytes" not in gone
    answer = await ask(workbench, "adder", "4+4")
    again = await scrapes.read("adder")
    grown = again["vllm:generation_tokens_total"] - gone["vllm:generation_tokens_total"]
    assert grown == answer.stats.completion_tokens
    assert again["workbench_kv_cache_bytes"] > 0


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="session")
async def test_the_dashboard_is_about_what_is_exported(workbench):
    await ask(workbench, "adder", "1+1")
    families = await Scrapes(workbench).families()
    assert names() <= {name for family in families for name in samples_of(family)}
    labels: dict[str, set[str]] = {}
    for family in families:
        for one in family.samples:
            labels.setdefault(one.name, set()).update(one.labels)
    told = [(name, wanted) for name, wanted in selected_labels() if name in labels]
    assert len(told) > 20
    assert [(name, wanted) for name, wanted in told if not wanted <= labels[name]] == []
