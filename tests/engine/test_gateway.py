"""The way of an API request to its model, where it does not go smoothly."""

import asyncio
import contextlib
import json
from typing import Any

import httpx
import psutil
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.engine.helpers import until, worker_of
from workbench.access.access import LOCAL, Caller
from workbench.api import patience
from workbench.api.openai import OpenAIGateway
from workbench.errors import NotFoundError
from workbench.values import VariantView

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session")]

SUM = [{"role": "user", "content": "38 + 47"}]
STORY = [{"role": "user", "content": "Tell me a story"}]
LONG = {"model": "storyteller", "messages": STORY, "stream": True, "ignore_eos": True, "max_tokens": 1500}


class Hasty:
    """A Workbench with other settings."""

    def __init__(self, workbench: Any, **settings: Any) -> None:
        self._workbench = workbench
        self.settings = workbench.settings.model_copy(update=settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workbench, name)


def client_of(workbench: Any, caller: Caller = LOCAL, **settings: Any) -> httpx.AsyncClient:
    gateway: ASGIApp = OpenAIGateway(Hasty(workbench, **settings))  # type: ignore[arg-type]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"caller": caller, "request_id": f"r{id(scope)}"}
        await gateway(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60)


async def unload_all(workbench) -> None:
    for runner in workbench.pool().runners:
        with contextlib.suppress(NotFoundError):  # it is leaving already
            await workbench.unload(runner.model, force=True)
    await until(lambda: not workbench.pool().runners)


async def test_who_does_not_stream_is_told_to_come_again_while_the_model_loads(workbench):
    await unload_all(workbench)
    async with client_of(workbench, api_wait=0.001) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "adder", "messages": SUM})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "goes on loading" in answer.json()["error"]["message"]
        await until(lambda: workbench.model("adder").residency == "device")
    async with client_of(workbench) as client:
        again = await client.post("/v1/chat/completions", json={"model": "adder", "messages": SUM})
        assert again.status_code == 200


async def test_a_stream_is_kept_alive_with_comments(workbench, monkeypatch):
    await unload_all(workbench)
    monkeypatch.setattr(patience, "KEEP_ALIVE_S", 0)
    async with client_of(workbench) as client:
        body = {"model": "adder", "messages": SUM, "stream": True, "temperature": 0}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith(": ")
    assert answer.text.endswith("data: [DONE]\n\n")
    datas = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    said = "".join(data["choices"][0]["delta"].get("content") or "" for data in datas)
    assert said == "38 + 47 = 85"


async def test_an_error_after_a_comment_comes_in_the_stream(workbench, monkeypatch):
    await unload_all(workbench)
    monkeypatch.setattr(patience, "KEEP_ALIVE_S", 0)
    async with client_of(workbench) as client:
        body = {"model": "adder", "messages": [{"role": "user", "content": "1 " * 2000}], "stream": True}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    error = json.loads(next(line[6:] for line in answer.text.splitlines() if line.startswith("data: {")))
    assert "1024" in error["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_has_its_request_aborted(workbench, stream):
    """Sixteen answers of 1,500 tokens take far longer than the engine is given to be idle."""
    left = asyncio.Event()
    body = json.dumps({**LONG, "stream": stream, "n": 16}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: dict) -> None:
        pass

    headers = [(b"content-type", b"application/json")]
    state = {"caller": LOCAL, "request_id": f"leaves-{stream}"}
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    scope |= {"state": state, "query_string": b"", "root_path": "", "http_version": "1.1", "scheme": "http"}
    asking = asyncio.create_task(OpenAIGateway(workbench)(scope, receive, send))
    async with asyncio.timeout(30):
        while not await generated_tokens(workbench):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    left.set()
    async with asyncio.timeout(3):
        await asking
        while await requests_in_engines(workbench):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert not any(runner.in_flight for runner in workbench.pool().runners)


async def generated_tokens(workbench) -> int:
    snapshots = [view.snapshot for view in await workbench.kv_caches() if view.snapshot]
    return sum(request.output_tokens for snapshot in snapshots for request in snapshot.requests)


async def requests_in_engines(workbench) -> int:
    return sum(len(view.snapshot.requests) for view in await workbench.kv_caches() if view.snapshot)


async def test_a_worker_that_dies_is_told_in_the_stream_and_in_an_answer(workbench):
    for stream in (True, False):
        async with client_of(workbench) as client:
            asking = asyncio.create_task(client.post("/v1/chat/completions", json={**LONG, "stream": stream}))
            await until(lambda: any(runner.in_flight for runner in workbench.pool().runners))
            psutil.Process(worker_of(workbench, "storyteller").pid).kill()
            answer = await asking
        assert answer.status_code == (200 if stream else 502)
        assert "The worker that ran storyteller was killed" in answer.text
        await until(lambda: workbench.pool().warm)


async def test_a_variant_brings_its_defaults(workbench):
    await workbench.gateway.add_variant(
        VariantView("short", "storyteller", "", {"max_tokens": 5, "temperature": 0}, context_length=40)
    )
    try:
        async with client_of(workbench) as client:
            answer = await client.post("/v1/chat/completions", json={"model": "short", "messages": STORY})
            assert answer.json()["usage"]["completion_tokens"] == 5
            asked = {"model": "short", "messages": STORY, "max_tokens": 1000, "ignore_eos": True}
            answer = await client.post("/v1/chat/completions", json=asked)
            assert answer.json()["usage"]["total_tokens"] == 40
            asked["messages"] = [{"role": "user", "content": "story " * 60}]
            answer = await client.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 400
            assert "holds 40" in answer.json()["error"]["message"]
    finally:
        await workbench.gateway.remove_variant("short")


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (VariantView("x", "nobody"), "no model named"),
        (VariantView("adder", "adder"), "is taken"),
        (VariantView("a b", "adder"), "no model name"),
        (VariantView("x", "adder", options={"temprature": 1}), "can't be a default"),
        (VariantView("x", "adder", options={"temperature": -1}), "temperature is -1"),
        (VariantView("x", "adder", options={"temperature": "hot"}), "wrong type"),
        (VariantView("x", "adder", context_length=5000), "1024"),
    ],
)
async def test_a_variant_that_can_not_be(workbench, variant, says):
    with pytest.raises(Exception, match=says):
        await workbench.gateway.add_variant(variant)
    assert not workbench.gateway.variants()


async def test_figures_of_an_answer_that_does_not_stream_tell_its_first_token(workbench):
    async with client_of(workbench) as client:
        body = {**LONG, "stream": False, "max_tokens": 60}
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == 60
    (record,) = await asyncio.to_thread(workbench.catalog.recent_requests, 1)
    assert record.completion_tokens == 60
    assert 0 < record.ttft_s < record.duration_s / 2
    assert record.decode_s > record.ttft_s


async def test_a_key_does_not_see_the_prefixes_of_another(workbench):
    prompt = [
        {"role": "user", "content": "Tell me a story about a bear and a very long walk in the woods " * 20}
    ]
    cached = []
    for name in ("one", "other"):
        await workbench.access.create(name)
    keys = {key.name: key.id for key in workbench.access.listed()}
    for name in ("one", "other", "one"):
        caller = Caller(keys[name], name, frozenset({"chat"}))
        async with client_of(workbench, caller=caller) as client:
            body = {"model": "storyteller", "messages": prompt, "max_tokens": 2}
            answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        cached.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached[:2] == [0, 0]
    assert cached[2] > 0
