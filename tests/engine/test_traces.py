"""A chat on the real engine as one trace: from the HTTP request to vLLM's own span."""

import httpx
import pytest

from tests.engine.helpers import ask, until
from tests.otlp_collector import collecting
from workbench.server import build_app
from workbench.telemetry.traces import Traces, open_traces

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_a_chat_is_one_trace_with_the_engines_own_span(workbench, monkeypatch):
    """The session's workbench has no endpoint; it gets one for a model that is loaded anew."""
    await ask(workbench, "counter", "Count from 1 to 3")
    await workbench.unload("counter")
    await until(lambda: all(runner.model != "counter" for runner in workbench.pool().runners))
    with collecting() as collector:
        monkeypatch.setattr(workbench.measurements, "traces", open_traces(collector.url))
        monkeypatch.setattr(workbench._bring_up, "_traces_endpoint", collector.url)
        transport = httpx.ASGITransport(build_app(workbench))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "mine"}
            question = {"model": "counter", "text": "Count from 1 to 9"}
            answer = await client.post("/chat/answer", json=question, headers=headers)
        assert answer.headers["x-request-id"] == "mine"
        assert "1, 2, 3, 4, 5, 6, 7, 8, 9" in answer.text
        workbench.measurements.traces.close()
        workbench.measurements.traces = Traces()
        await workbench.unload("counter")  # it would go on telling that collector
        spans = collector
    assert {span.trace for span in spans.spans} == {TRACE}
    http, request = spans.named("POST /chat/answer"), spans.named("request")
    queue, switch, generate = (spans.named(name) for name in ("queue", "switch", "generate"))
    engine = spans.named("llm_request")
    assert http.parent == SPAN
    assert request.parent == http.id
    assert {queue.parent, switch.parent, generate.parent} == {request.id}
    assert engine.parent == generate.id
    assert {span.name for span in spans.spans if span.parent == switch.id} >= {"create", "weights", "attach"}
    assert switch.attributes["workbench.from_residency"] == "disk"
    tokens = request.attributes["gen_ai.usage.output_tokens"]
    assert tokens == engine.attributes["gen_ai.usage.completion_tokens"] > 20
    assert request.attributes["workbench.request_id"].startswith("mine-")
    assert engine.attributes["gen_ai.request.id"] == request.attributes["workbench.request_id"]
    assert queue.start <= switch.start < switch.end <= engine.start <= generate.end <= http.end
