"""A chat on the real engine as one trace: from the HTTP request to vLLM's own span."""

import httpx
import pytest

from tests.engine.helpers import ask, until
from tests.otlp_collector import Collector, collecting
from workbench.server import build_app
from workbench.telemetry.traces import open_traces

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]
CHAT, API = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"
SPAN = "b7ad6b7169203331"
QUESTION = "Count from 1 to 9"


def headers(trace: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{SPAN}-01", "X-Request-Id": "mine"}


async def unloaded(workbench) -> None:
    await workbench.unload("counter", force=True)
    await until(lambda: all(runner.model != "counter" for runner in workbench.pool().runners))


async def test_a_request_is_one_trace_with_the_engines_own_span(workbench, monkeypatch):
    """The session's workbench has no endpoint; it gets one for a model that is loaded anew."""
    await ask(workbench, "counter", "Count from 1 to 3")
    await unloaded(workbench)
    with collecting() as collector:
        traces = open_traces(collector.url)
        try:
            monkeypatch.setattr(workbench.measurements, "traces", traces)
            monkeypatch.setattr(workbench._bring_up, "_traces_endpoint", collector.url)
            transport = httpx.ASGITransport(build_app(workbench))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                question = {"do": "send", "stream": "s1", "models": ["counter"], "text": QUESTION}
                chat = await client.post("/chat/answer", json=question, headers=headers(CHAT))
                assert "8, 9" in chat.text
                body = {"model": "counter", "messages": [{"role": "user", "content": QUESTION}]}
                api = await client.post("/v1/chat/completions", json=body, headers=headers(API))
        finally:
            traces.close()
            await unloaded(workbench)  # it would go on telling that collector
    assert chat.headers["x-request-id"] == api.headers["x-request-id"] == "mine"
    assert api.json()["usage"]["completion_tokens"] > 10
    check_a_switch(of_trace(collector, CHAT))
    check_no_switch(of_trace(collector, API))


def of_trace(collector: Collector, trace: str) -> Collector:
    found = Collector(collector.url)
    found.spans = [span for span in collector.spans if span.trace == trace]
    return found


def check_a_switch(spans: Collector) -> None:
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
    assert tokens == engine.attributes["gen_ai.usage.completion_tokens"] > 10
    assert request.attributes["workbench.request_id"].startswith("mine-")
    assert engine.attributes["gen_ai.request.id"] == request.attributes["workbench.request_id"]
    assert queue.start <= switch.start < switch.end <= engine.start <= generate.end <= http.end


def check_no_switch(spans: Collector) -> None:
    http, request = spans.named("POST /v1/chat/completions"), spans.named("request")
    names = {span.name for span in spans.spans}
    assert names == {http.name, "request", "queue", "generate", "llm_request"}
    assert http.parent == SPAN
    assert request.parent == http.id
    assert spans.named("llm_request").parent == spans.named("generate").id
    assert http.attributes["http.response.status_code"] == 200
    assert request.attributes["workbench.request_id"] == "mine"
    assert request.attributes["gen_ai.usage.output_tokens"] > 10
