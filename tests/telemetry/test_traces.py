"""Traces as a collector gets them: what is a child of what, and where the time of a wait is told."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.otlp_collector import Collector, collecting
from workbench.pool.snapshot import SwapRecord
from workbench.requests import RequestFigures
from workbench.telemetry.traces import Traces, open_traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector():
    with collecting() as running:
        yield running


def swap(**changes) -> SwapRecord:
    values = {"model": "adder", "worker": "w1", "device": "cpu", "started_at": 0.0, "from_residency": "disk"}
    values |= {"evicted": ("counter",), "outcome": "ok", "wait_s": 0.02, "create_s": 0.03, "weights_s": 0.05}
    return SwapRecord(**values | {"total_s": 0.1} | changes)


def one_request(traces: Traces, lease, waited_s: float = 0.0, tokens: int = 3) -> dict[str, str]:
    """A request of which the last token comes at its end."""
    figures = RequestFigures("adder")
    trace = traces.request("mine", figures)
    time.sleep(waited_s)
    trace.leased(lease)
    for count in range(1, tokens + 1):
        figures.grown(count, 20, 16, "stop" if count == tokens else None)
    trace.ended()
    return trace.headers


def test_a_request_is_one_trace_from_http_to_the_last_token(collector: Collector):
    traces = open_traces(collector.url)
    with traces.http("POST", "/v1/completions", "mine", {"traceparent": PARENT}) as http:
        assert http.log_fields == {"trace_id": PARENT[3:35]}
        headers = one_request(traces, SimpleNamespace(waited_s=0.1, swap=swap()), 0.1)
        http.ended("/v1/completions", 200)
    traces.close()
    assert {span.trace for span in collector.spans} == {PARENT[3:35]}
    assert {span.service for span in collector.spans} == {"workbench"}
    http_span = collector.named("POST /v1/completions")
    assert http_span.parent == PARENT[36:52]
    assert http_span.attributes["http.response.status_code"] == 200
    request = collector.named("request")
    assert request.parent == http_span.id
    assert request.attributes["gen_ai.usage.output_tokens"] == 3
    assert request.attributes["workbench.request_id"] == "mine"
    queue, switch, generate = (collector.named(name) for name in ("queue", "switch", "generate"))
    assert {queue.parent, switch.parent, generate.parent} == {request.id}
    assert queue.end == switch.start
    assert switch.end - switch.start == pytest.approx(0.08, abs=1e-5)
    assert switch.end == generate.start <= generate.events["first token"] <= generate.end <= request.end
    create, weights = collector.named("create"), collector.named("weights")
    assert (create.parent, weights.parent) == (switch.id, switch.id)
    assert (create.start, weights.end) == (switch.start, switch.end)
    assert "attach" not in {span.name for span in collector.spans}, "it took no time"
    assert headers["traceparent"] == f"00-{request.trace}-{generate.id}-01"


def test_a_request_that_came_during_a_switch_is_told_its_own_part(collector: Collector):
    traces = open_traces(collector.url)
    one_request(traces, SimpleNamespace(waited_s=0.02, swap=swap()), 0.02)
    traces.close()
    request = collector.named("request")
    assert collector.named("switch").start == request.start
    weights = collector.named("weights")
    assert weights.start == request.start
    assert weights.attributes["workbench.seconds"] == 0.05
    assert "create" not in {span.name for span in collector.spans}, "it was over before"


def test_a_refusal_is_an_error_and_a_client_that_leaves_is_none(collector: Collector):
    traces = open_traces(collector.url)
    for error in ("adder can't be loaded: no room.", ""):
        figures = RequestFigures("adder")
        trace = traces.request("mine", figures)
        figures.error = error
        trace.ended()
    traces.close()
    refused, left = (span for span in collector.spans if span.name == "request")
    assert refused.error == "adder can't be loaded: no room."
    assert left.error is None
    queues = [span for span in collector.spans if span.name == "queue"]
    assert [queue.parent for queue in queues] == [refused.id, left.id]


def test_nothing_is_sent_for_a_client_that_samples_its_traces_out(collector: Collector):
    traces = open_traces(collector.url)
    with traces.http("GET", "/v1/models", "mine", {"traceparent": PARENT[:-1] + "0"}):
        one_request(traces, SimpleNamespace(waited_s=0.0, swap=None))
    traces.close()
    assert collector.spans == []


def test_a_collector_that_is_not_there_holds_up_nobody():
    traces = open_traces("http://127.0.0.1:9")
    one_request(traces, SimpleNamespace(waited_s=0.0, swap=None))
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < 5


def test_without_an_endpoint_opentelemetry_is_not_even_imported():
    code = """if True:
        import sys
        import workbench.api.access_log, workbench.service
        from workbench.telemetry.traces import open_traces
        traces = open_traces(None)
        with traces.http("GET", "/v1", "mine", {}):
            trace = traces.request("mine", None)
            trace.leased(None)
            assert trace.headers is None
            trace.ended()
        traces.close()
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
