"""LangChain, WebSockets, and whatever Schemathesis thinks of."""

import asyncio
import json

import pytest
import schemathesis
import websockets
from hypothesis import HealthCheck, given, settings
from langchain_openai import ChatOpenAI

from workbench.api.openai import PATHS

pytestmark = pytest.mark.engine

SUM = [{"role": "user", "content": "38 + 47"}]


def test_langchain_chats_and_streams(api_app):
    model = ChatOpenAI(model="adder", base_url=f"{api_app.url}/v1", api_key="none", temperature=0)
    assert model.invoke("38 + 47").content == "38 + 47 = 85"
    assert "".join(chunk.content for chunk in model.stream("38 + 47")) == "38 + 47 = 85"


class Socket:
    """A browser app's end of the WebSocket."""

    def __init__(self, connection) -> None:
        self._connection = connection

    async def send(self, **message) -> None:
        await self._connection.send(json.dumps(message))

    async def until_done(self, *ids) -> list[dict]:
        """Messages until all these requests are done."""
        messages, left = [], set(ids)
        async with asyncio.timeout(60):
            while left:
                messages.append(json.loads(await self._connection.recv()))
                if messages[-1]["event"] == "done":
                    left.discard(messages[-1]["id"])
        return messages


@pytest.fixture
async def socket(api_app):
    async with websockets.connect(api_app.url.replace("http", "ws") + "/v1/ws") as connection:
        yield Socket(connection)


def said(messages: list[dict], number) -> str:
    chunks = [m["data"] for m in messages if m["id"] == number and m["event"] == "chunk"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


async def test_two_requests_side_by_side_on_one_websocket(socket):
    body = {"messages": SUM, "temperature": 0, "stream": True}
    await socket.send(id=1, path="/v1/chat/completions", body={**body, "model": "adder"})
    await socket.send(id="two", path="/v1/chat/completions", body={"model": "adder", "messages": SUM})
    messages = await socket.until_done(1, "two")
    assert said(messages, 1) == "38 + 47 = 85"
    (whole,) = [m for m in messages if m["id"] == "two" and m["event"] == "response"]
    assert whole["status"] == 200
    assert whole["data"]["choices"][0]["message"]["content"]


async def test_each_request_of_a_websocket_is_logged(api_app):
    url, headers = api_app.url.replace("http", "ws") + "/v1/ws", {"X-Request-Id": "mine"}
    async with websockets.connect(url, additional_headers=headers) as connection:
        socket = Socket(connection)
        await socket.send(id=1, path="/v1/completions", body={"model": "adder", "prompt": "1"})
        await socket.until_done(1)
    told = (r"request_id=mine-1\b", r"path=/v1/completions\b", r"model=adder\b", r"tokens=\d")
    api_app.wait_for("(?m)^" + "".join(f"(?=.*{field})" for field in told), 10)


async def test_a_websocket_tells_errors_and_goes_on(socket):
    await socket.send(id=1, path="/v1/chat/completions", body={"model": "nobody", "messages": SUM})
    (error, _) = await socket.until_done(1)
    assert (error["event"], error["status"]) == ("error", 404)
    assert error["data"]["error"]["code"] == "model_not_found"
    await socket.send(id=2, path="/etc/passwd", body={})
    (error, _) = await socket.until_done(2)
    assert error["status"] == 400
    await socket._connection.send("{")
    assert json.loads(await socket._connection.recv())["event"] == "error"
    await socket._connection.recv()
    await socket.send(id=3, path="/v1/chat/completions", body={"model": "adder", "messages": SUM})
    assert (await socket.until_done(3))[-2]["status"] == 200


async def test_a_request_on_a_websocket_is_cancelled(socket, http):
    long = {"model": "storyteller", "messages": SUM, "stream": True, "ignore_eos": True, "max_tokens": 1500}
    await socket.send(id=1, path="/v1/chat/completions", body=long)
    while json.loads(await socket._connection.recv())["event"] != "chunk":
        pass
    await socket.send(id=1, cancel=True)
    async with asyncio.timeout(5):  # 1,500 tokens take longer
        await socket.until_done(1)
        while (await asyncio.to_thread(http.get, "/admin/status")).json()["in_flight"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_pages_of_other_sites_get_no_websocket(api_app):
    url = api_app.url.replace("http", "ws") + "/v1/ws"
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(url, origin="https://elsewhere.example")


def test_the_docs_load_nothing_from_elsewhere(http):
    page = http.get("/docs").text
    assert "https://" not in page
    assert http.get("/docs/swagger-ui-bundle.js").is_success
    assert http.get("/docs/other").status_code == 404


EMBEDDING = ("/v1/embeddings", "/v1/score", "/v1/rerank", "/score", "/rerank", "/pooling", "/classify")
LEFT_OUT = ("/admin/workers/{id}/restart", "/admin/workers/{id}/drain", "/admin/models/hub")
"""They end what other tests use, or reach for the network."""


def test_schemathesis_finds_no_500_no_hang_and_no_status_that_is_not_described(api_app):
    schema = schemathesis.openapi.from_url(f"{api_app.url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    operations = [operation for operation in found if operation.path not in LEFT_OUT]
    assert len(operations) > 20
    assert set(LEFT_OUT) <= {operation.path for operation in found}
    for operation in operations:
        examine(operation)


def examine(operation) -> None:
    described = operation.definition.raw["responses"]

    @given(case=operation.as_strategy())
    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def call(case) -> None:
        if operation.path in PATHS and isinstance(case.body, dict):
            case.body["model"] = "embedder" if operation.path in EMBEDDING else "adder"
        response = case.call(timeout=60)
        told = f"{response.status_code} {response.text[:500]} for {case.as_curl_command()[:500]}"
        assert response.status_code != 500, told
        assert str(response.status_code) in described, told

    call()
