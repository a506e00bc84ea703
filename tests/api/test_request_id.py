"""Request ids, and the line in the log that each request of the API has."""

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient
from structlog.testing import LogCapture

from workbench.api.access_log import AccessLog, ApiRequest
from workbench.api.request_id import RequestIds
from workbench.telemetry.traces import Traces
from workbench.values import Caller


@pytest.fixture
def lines():
    """What is logged, with what the context binds."""
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()


@pytest.fixture
def ended() -> list[ApiRequest]:
    return []


@pytest.fixture
def client(lines, ended: list[ApiRequest]) -> httpx.AsyncClient:
    app = FastAPI()

    @app.get("/v1/models/{name}")
    async def model(name: str, request: Request):
        structlog.get_logger().info("inside")
        request.scope["state"]["model"] = name
        request.scope["state"]["tokens"] = 7
        request.scope["state"]["caller"] = Caller(1, "laptop", frozenset({"chat"}))
        return {"id": request.scope["state"]["request_id"]}

    @app.get("/v1/broken")
    async def broken():
        raise RuntimeError

    @app.get("/events")
    async def events():
        return "polled"

    @app.websocket("/v1/socket")
    async def socket(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.scope["state"]["request_id"])
        await websocket.close()

    wrapped = RequestIds(AccessLog(app, ended.append, Traces()))
    transport = httpx.ASGITransport(wrapped, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_a_clients_id_is_kept_returned_and_logged(client: httpx.AsyncClient, lines):
    response = await client.get("/v1/models/adder", headers={"X-Request-Id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.json() == {"id": "mine-1"}
    assert {line["request_id"] for line in lines} == {"mine-1"}
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize("sent", ["", "x" * 129, "with space", "tab\t", b"caf\xe9"])
async def test_an_id_that_is_not_fit_for_a_log_is_replaced(client: httpx.AsyncClient, sent):
    response = await client.get("/v1/models/adder", headers={"X-Request-Id": sent})
    given = response.headers["x-request-id"]
    assert len(given) == 32
    assert given != (await client.get("/events")).headers["x-request-id"]


async def test_the_longest_id_is_taken(client: httpx.AsyncClient):
    response = await client.get("/events", headers={"X-Request-Id": "~" * 128})
    assert response.headers["x-request-id"] == "~" * 128


async def test_errors_and_unknown_paths_carry_an_id(client: httpx.AsyncClient, ended: list[ApiRequest]):
    assert (await client.get("/v1/broken")).headers["x-request-id"]
    assert (await client.get("/v1/nowhere")).headers["x-request-id"]
    assert [(request.route, request.status) for request in ended] == [("/v1/broken", 500), ("unmatched", 404)]


async def test_a_request_of_the_api_is_one_line(client: httpx.AsyncClient, lines, ended: list[ApiRequest]):
    await client.get("/v1/models/adder")
    await client.get("/events")
    assert (await client.get("/v1beta")).status_code == 404  # not below /v1
    (line,) = [line for line in lines if line["event"] == "request"]
    told = ("method", "path", "status", "model", "tokens", "key", "log_level")
    assert {name: line[name] for name in told} == {
        "method": "GET",
        "path": "/v1/models/adder",
        "status": 200,
        "model": "adder",
        "tokens": 7,
        "key": "laptop",
        "log_level": "info",
    }
    assert line["seconds"] >= 0
    (request,) = ended
    assert request.route == "/v1/models/{name}"


async def test_a_web_socket_has_an_id_and_a_line(client: httpx.AsyncClient, lines):
    with TestClient(client._transport.app).websocket_connect("/v1/socket") as socket:
        assert dict(socket.extra_headers)[b"x-request-id"].decode() == socket.receive_text()
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["status"]) == ("WEBSOCKET", 101)
