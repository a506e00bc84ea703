"""Counters of requests and switches, and families of several registries as those of one."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest

from tests.promlint import families, problems
from workbench.telemetry.metrics import Metrics, merged


class Families:
    def __init__(self, metrics) -> None:
        self.metrics = list(metrics)

    def collect(self):
        return self.metrics


def text_of(*parts) -> str:
    return generate_latest(Families(merged(parts))).decode()


def lines_of(metrics: Metrics) -> set[str]:
    return set(text_of(*metrics.parts()).splitlines())


def registry(value: float) -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("vllm:tokens", "Tokens.", ("model_name",), registry=made).labels("m").inc(value)
    Gauge("vllm:running", "Running.", registry=made).set(value)
    return made


def test_families_of_two_models_are_merged_by_name():
    text = text_of(({"model": "adder"}, registry(1).collect()), ({"model": "counter"}, registry(2).collect()))
    assert set(families(text)) == {"vllm:tokens_total", "vllm:running"}
    assert 'vllm:tokens_total{model="adder",model_name="m"} 1.0' in text
    assert 'vllm:tokens_total{model="counter",model_name="m"} 2.0' in text
    assert 'vllm:running{model="counter"} 2.0' in text
    assert "_created" not in text


def test_one_name_for_two_types_is_an_error():
    other = CollectorRegistry()
    Gauge("vllm:tokens", "Tokens.", registry=other)
    with pytest.raises(ValueError, match="counter here and a gauge there"):
        text_of(({}, registry(1).collect()), ({}, other.collect()))


def test_a_request_is_counted_as_it_begins_and_ends():
    metrics = Metrics()
    metrics.begin_request("adder")
    times = {"ttft": 0.04, "tpot": 0.012, "total": 0.4, "queue": 0.0, "pause": 0.02}
    metrics.end_request("adder", "stop", times, True, 20, 16, 10)
    metrics.begin_request("adder")
    metrics.end_request("adder", "error", {}, False, 20, 0, 3)
    lines = lines_of(metrics)
    assert 'workbench_requests_total{model="adder"} 2.0' in lines
    assert 'workbench_requests_finished_total{finish_reason="stop",model="adder"} 1.0' in lines
    assert 'workbench_requests_finished_total{finish_reason="error",model="adder"} 1.0' in lines
    assert 'workbench_completion_tokens_total{model="adder"} 13.0' in lines
    assert 'workbench_cached_prompt_tokens_total{model="adder"} 16.0' in lines
    ttft = 'workbench_time_to_first_token_seconds_bucket{le="%s",model="adder",switched="true"} %s'
    assert {ttft % ("0.03", "0.0"), ttft % ("0.05", "1.0")} <= lines
    assert 'workbench_request_seconds_count{model="adder"} 1.0' in lines, "only complete answers are timed"


def test_a_switch_is_counted_and_timed_only_if_it_succeeds():
    metrics = Metrics()
    metrics.end_switch("adder", "disk", "ok", 0.09, {"wait": 0.01, "weights": 0.05})
    metrics.end_switch("adder", "disk", "failed", 30.0, {"wait": 30.0})
    lines = lines_of(metrics)
    assert 'workbench_switches_total{from_residency="disk",model="adder",outcome="failed"} 1.0' in lines
    assert 'workbench_switch_seconds_count{from_residency="disk",model="adder"} 1.0' in lines
    assert 'workbench_switch_phase_seconds_sum{phase="wait"} 0.01' in lines
    assert 'workbench_switch_phase_seconds_bucket{le="0.05",phase="weights"} 1.0' in lines


def test_names_are_as_promtool_wants_them():
    assert problems(text_of(*Metrics().parts())) == []
