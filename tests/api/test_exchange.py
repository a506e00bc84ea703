"""A response that may be kept alive before anybody knows how it will go."""

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect

from workbench.api import exchange as exchange_module
from workbench.api.exchange import Exchange
from workbench.errors import BadRequestError, NotFoundError, UnavailableError

SCOPE = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "root_path": ""}


class Client:
    """Sends a body in pieces, then leaves; keeps what it is sent."""

    def __init__(self, *pieces: bytes) -> None:
        self._messages = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
            for number, piece in enumerate(pieces)
        ]
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


def exchange_with(*pieces: bytes) -> tuple[Exchange, Client]:
    client = Client(*pieces)
    return Exchange(dict(SCOPE), client.receive, client.send), client


def start(status: int) -> dict:
    return {"type": "http.response.start", "status": status, "headers": []}


def body(content: bytes, more: bool = False) -> dict:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def test_a_body_in_pieces_is_read_and_replayed_once():
    exchange, _ = exchange_with(b'{"model"', b': "a"}')
    assert await exchange.read() == {"model": "a"}
    assert (await exchange.replay())["body"] == b'{"model": "a"}'
    assert (await exchange.replay())["type"] == "http.disconnect"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_object_is_refused(content):
    exchange, _ = exchange_with(content)
    with pytest.raises(BadRequestError):
        await exchange.read()


async def test_a_client_that_leaves_before_its_body_is_complete():
    client = Client()
    client._messages = [{"type": "http.request", "body": b"{", "more_body": True}]
    with pytest.raises(ClientDisconnect):
        await Exchange(dict(SCOPE), client.receive, client.send).read()


async def test_a_client_that_takes_nothing_counts_as_gone(monkeypatch):
    monkeypatch.setattr(exchange_module, "SEND_TIMEOUT_S", 0.01)
    client = Client(b"{}")

    async def stalled(_message: dict) -> None:
        await asyncio.Event().wait()

    exchange = Exchange(dict(SCOPE), client.receive, stalled)
    with pytest.raises(ClientDisconnect):
        await exchange.forward(start(200))
    with pytest.raises(ClientDisconnect):
        await exchange.comment("Loading")


async def test_an_answer_is_passed_on_as_it_is():
    exchange, client = exchange_with(b"{}")
    for message in (start(201), body(b"a", more=True), body(b"b")):
        assert not exchange.complete
        await exchange.forward(message)
    assert exchange.complete
    assert (client.status, exchange.status, client.text) == (201, 201, "ab")


async def test_after_a_comment_the_answer_goes_on_in_the_same_stream():
    exchange, client = exchange_with(b"{}")
    await exchange.comment("Loading\nadder")
    await exchange.event("progress", {"stage": "loading"})
    await exchange.forward(start(200))
    await exchange.forward(body(b"data: 1\n\n"))
    assert [message["type"] for message in client.sent].count("http.response.start") == 1
    assert client.text == ': Loading adder\n\nevent: progress\ndata: {"stage": "loading"}\n\ndata: 1\n\n'


async def test_an_error_of_the_application_comes_inside_a_stream_that_has_begun():
    exchange, client = exchange_with(b"{}")
    await exchange.comment("Loading")
    await exchange.forward(start(400))
    await exchange.forward(body(b'{"error":', more=True))
    await exchange.forward(body(b' {"message": "no"}}'))
    assert client.text == ': Loading\n\ndata: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n'
    assert exchange.status == 400
    assert exchange.complete


async def test_an_error_before_anything_was_sent_has_its_status():
    exchange, client = exchange_with(b"{}")
    await exchange.fail(NotFoundError("There is none."), param="model", code="model_not_found")
    assert client.status == 404
    assert json.loads(client.text)["error"]["code"] == "model_not_found"


async def test_an_error_inside_a_stream():
    exchange, client = exchange_with(b"{}")
    await exchange.comment("Loading")
    await exchange.fail(UnavailableError("Gone."))
    assert '"message": "Gone."' in client.text
    assert client.text.endswith("data: [DONE]\n\n")


async def test_an_error_after_an_answer_changes_nothing():
    exchange, client = exchange_with(b"{}")
    await exchange.forward(start(200))
    await exchange.forward(body(b"{}"))
    await exchange.fail(UnavailableError("Gone."))
    assert client.text == "{}"
