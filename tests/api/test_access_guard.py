"""The one door: hosts, keys, scopes, other sites, and how each kind of client is refused."""

import logging

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from tests.ui.fake_workbench import FakeWorkbench
from workbench.api.access_guard import AccessGuard, host_is_allowed, needed_scope
from workbench.api.body_limit import BodyLimit
from workbench.settings import Settings
from workbench.ui.login import login_router, own_path
from workbench.values import Caller

LIMIT = 10_000
BROWSER = {"accept": "text/html,*/*", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
OWN = {"sec-fetch-site": "same-origin"}
COOKIE = "workbench-7860"
SOCKET = "ws://127.0.0.1:7860/v1/socket"


def make_client(workbench: FakeWorkbench, **options) -> TestClient:
    app = FastAPI()

    async def who(request: Request) -> dict[str, str]:
        caller: Caller = request.state.caller
        return {"name": caller.name}

    async def length(request: Request) -> int:
        return len(await request.body())

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.caller.name)

    for path in ("/", "/keys", "/v1/models", "/admin/status", "/metrics", "/health", "/anything"):
        app.get(path)(who)
    app.post("/v1/length")(length)
    app.post("/admin/unload")(who)
    app.websocket("/v1/socket")(socket)
    app.include_router(login_router(workbench))
    app.add_middleware(BodyLimit, limit=LIMIT)
    app.add_middleware(AccessGuard, workbench=workbench, pages=("/", "/keys"))
    base = {"base_url": "http://127.0.0.1:7860", "follow_redirects": False} | options
    return TestClient(app, **base)


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(require_keys="always")


@pytest.fixture
def client(workbench: FakeWorkbench) -> TestClient:
    return make_client(workbench)


async def headers_of(workbench: FakeWorkbench, scope: str = "chat", name: str = "") -> dict[str, str]:
    return {"authorization": f"Bearer {await workbench.access.create(name or scope, scope)}"}


# Keys and scopes.


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/health", None),
        ("/login", None),
        ("/assets/index.js", None),
        ("/v1/chat/completions", "chat"),
        ("/", "chat"),
        ("/gradio_api/component_server", "chat"),
        ("/events", "chat"),
        ("/session", "chat"),
        ("/something/nobody/thought/of", "chat"),
        ("/healthy", "chat"),
        ("/admin", "admin"),
        ("/admin/models/x/load", "admin"),
        ("/metrics", "admin"),
        ("/logs/w1", "admin"),
        ("/keys", "admin"),
    ],
)
def test_what_is_not_named_is_closed(path, scope):
    assert needed_scope(path) == scope


async def test_programs_are_refused_as_openais_clients_expect(client, workbench):
    for headers, code in (({}, 401), ({"authorization": "Bearer wb-wrong"}, 401)):
        for path in ("/v1/models", "/admin/status", "/metrics", "/anything"):
            response = client.get(path, headers=headers)
            assert response.status_code == code
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.json()["error"]["code"] == "invalid_api_key"
    assert client.get("/v1/models", headers=BROWSER).status_code == 401, "also to a browser"
    assert client.get("/health").json() == {"name": "nobody"}


async def test_scopes(client, workbench):
    chat, admin = await headers_of(workbench), await headers_of(workbench, "admin")
    assert client.get("/v1/models", headers=chat).json() == {"name": "chat"}
    for path in ("/admin/status", "/metrics"):
        response = client.get(path, headers=chat)
        assert (response.status_code, response.json()["error"]["type"]) == (403, "permission_error")
        assert client.get(path, headers=admin).json() == {"name": "admin"}
    assert client.post("/admin/unload", headers=chat).status_code == 403


async def test_a_prefix_of_a_proxy_opens_nothing(workbench):
    client = make_client(workbench, root_path="/wb")
    chat = await headers_of(workbench)
    assert client.get("/wb/health").status_code == 200
    assert client.get("/wb/admin/status", headers=chat).status_code == 403
    assert client.get("/admin/status", headers=chat).status_code == 403
    assert client.get("/wb/v1/models").status_code == 401
    response = client.get("/wb/keys", headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/wb/login?next=%2Fkeys")
    assert 'action="/wb/login"' in client.get("/wb/login", headers=BROWSER).text
    signed_in = client.post("/wb/login", data={"key": chat["authorization"][7:], "next": "/kv"}, headers=OWN)
    assert signed_in.headers["location"] == "/wb/kv"


async def test_websockets_are_guarded_and_take_a_key_as_subprotocol(client, workbench):
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(SOCKET):
        pass
    assert refused.value.status_code == 401
    headers = await headers_of(workbench)
    with client.websocket_connect(SOCKET, headers=headers) as socket:
        assert socket.receive_text() == "chat"
    secret = headers["authorization"].removeprefix("Bearer ")
    protocols = ["workbench", f"openai-insecure-api-key.{secret}"]
    elsewhere = {"origin": "https://elsewhere.example"}
    with client.websocket_connect(SOCKET, subprotocols=protocols, headers=elsewhere) as socket:
        assert socket.receive_text() == "chat"


async def test_a_revoked_key_and_a_wrong_one_are_refused_and_no_key_is_logged(
    client, workbench, caplog, capfd
):
    headers = await headers_of(workbench)
    assert client.get("/v1/models", headers=headers).status_code == 200
    await workbench.access.revoke("chat")
    with caplog.at_level(logging.DEBUG):
        assert client.get("/v1/models", headers=headers).status_code == 401
        client.post("/login", data={"key": "wb-guess"})
        client.get("/?key=wb-guess", headers=BROWSER)
    records = [
        record.getMessage() for record in caplog.records if record.name != "httpx2"
    ]  # the client's own
    logged = "".join((*records, *capfd.readouterr()))
    assert "a key was refused" in logged
    assert "wb-guess" not in logged
    assert headers["authorization"].removeprefix("Bearer wb-") not in logged


# Browsers.


async def test_a_person_is_led_to_the_sign_in_and_back(client, workbench):
    response = client.get("/?chat=7", headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/login?next=%2F%3Fchat%3D7")
    page = client.get(response.headers["location"], headers=BROWSER)
    assert page.status_code == 200
    assert 'value="/?chat=7"' in page.text
    wrong = client.post("/login", data={"key": "wb-no", "next": "/?chat=7"}, headers=OWN)
    assert wrong.status_code == 401
    assert "mistyped" in wrong.text
    assert "set-cookie" not in wrong.headers
    secret = await workbench.access.create("me")
    right = client.post("/login", data={"key": secret, "next": "/?chat=7"}, headers=OWN)
    assert (right.status_code, right.headers["location"]) == (303, "/?chat=7")
    cookie = right.headers["set-cookie"]
    assert "; HttpOnly; SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert secret not in cookie
    assert client.get("/", headers=BROWSER).json() == {"name": "me"}
    told = client.get("/session", headers=OWN).json()
    assert told == {"name": "me", "scopes": ["chat"], "signed_in": True}
    assert client.get("/login", headers=BROWSER).headers["location"] == "/"

    out = client.post("/logout", headers=OWN)
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert client.get("/session", headers=OWN).status_code == 401


async def test_a_link_with_a_key_signs_in_and_leaves_a_clean_url(client, workbench):
    secret = await workbench.access.create("me")
    response = client.get(f"/?key={secret}&chat=7", headers=BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/?chat=7")
    assert response.headers["referrer-policy"] == "no-referrer"
    assert client.get("/", headers=BROWSER).json() == {"name": "me"}
    client.cookies.clear()
    wrong = client.get("/?key=wb-no", headers=BROWSER)
    assert wrong.headers["location"] == "/login?next=%2F&why=key"
    assert "mistyped" in client.get(wrong.headers["location"]).text


async def test_who_comes_by_a_link_of_another_site_goes_on_from_here(client, workbench):
    """Such a navigation carries no SameSite=Strict cookie, nor do redirects that follow it."""
    secret = await workbench.access.create("me")
    response = client.get(f"/?key={secret}", headers=BROWSER | {"sec-fetch-site": "cross-site"})
    assert response.status_code == 200
    assert 'content="0;url=/"' in response.text
    assert COOKIE in response.headers["set-cookie"]


async def test_a_page_beyond_the_scope_offers_another_sign_in(client, workbench):
    client.post("/login", data={"key": await workbench.access.create("me")}, headers=OWN)
    response = client.get("/keys", headers=BROWSER)
    assert response.headers["location"] == "/login?next=%2Fkeys&why=scope"
    page = client.get(response.headers["location"], headers=BROWSER)
    assert page.status_code == 200
    assert "scope “admin”" in page.text


async def test_cookies_over_https_in_frames_and_behind_a_prefix(workbench):
    secret = await workbench.access.create("me")

    def cookie(workbench: FakeWorkbench, headers=None, **options) -> str:
        client = make_client(workbench, **options)
        return client.post("/login", data={"key": secret}, headers=OWN | (headers or {})).headers[
            "set-cookie"
        ]

    assert "; SameSite=Strict; Secure" in cookie(workbench, {"x-forwarded-proto": "https"})
    assert "; Path=/wb;" in cookie(workbench, root_path="/wb")
    framed = FakeWorkbench(host="0.0.0.0", frame_ancestors=("https://huggingface.co",))
    secret = await framed.access.create("me")
    assert "; SameSite=None; Partitioned; Secure" in cookie(framed)


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "",
        "/a\nb",
        "/" * 3000,
    ],
)
def test_a_sign_in_leads_to_no_other_site(wanted):
    assert own_path(wanted) == "/"


async def test_what_is_written_into_the_sign_in_page_is_escaped(client):
    page = client.get("/login", params={"next": '/"><script>alert(1)</script>', "why": "<b>"})
    assert "<script>alert" not in page.text


# Other sites.


async def test_another_site_can_send_nothing_along_with_a_cookie(client, workbench):
    client.post("/login", data={"key": await workbench.access.create("me", "admin")}, headers=OWN)
    for site in ("cross-site", "same-site"):
        assert client.post("/admin/unload", headers={"sec-fetch-site": site}).status_code == 403
    assert client.post("/admin/unload", headers={"origin": "http://127.0.0.1:9999"}).status_code == 403
    assert client.post("/admin/unload", headers={"origin": "null"}).status_code == 403
    assert client.post("/admin/unload", headers={"origin": "http://127.0.0.1:7860"}).status_code == 200
    assert client.post("/admin/unload", headers=OWN).status_code == 200


async def test_nor_to_a_loopback_that_asks_for_no_key():
    client = make_client(FakeWorkbench())
    cross = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert client.post("/admin/unload").json() == {"name": "local"}
    refusal = client.post("/admin/unload", headers=cross)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "cross_site_request")
    protocols = ["openai-insecure-api-key.guess"]
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect(SOCKET, subprotocols=protocols, headers=cross),
    ):
        pass
    assert refused.value.status_code == 403
    shown = cross | {"authorization": "Bearer none"}  # browsers ask before they send such a header elsewhere
    assert client.post("/admin/unload", headers=shown).status_code == 200


async def test_an_origin_that_is_allowed_may_call_but_not_on_behalf_of_who_is_signed_in():
    workbench = FakeWorkbench(allowed_origins=("https://app.example",))
    client = make_client(workbench)
    theirs = {"sec-fetch-site": "cross-site", "origin": "https://app.example"}
    assert client.post("/admin/unload", headers=theirs).json() == {"name": "local"}
    assert client.post("/admin/unload", headers=theirs | {"origin": "https://b.example"}).status_code == 403
    client.post("/login", data={"key": workbench.add_key("me", "admin")}, headers=OWN)
    assert client.post("/admin/unload", headers=theirs).status_code == 403


@pytest.mark.parametrize(
    ("settings", "host", "allowed"),
    [
        ({}, "127.0.0.1:7860", True),
        ({}, "localhost:7860", True),
        ({}, "LOCALHOST", True),
        ({}, "[::1]:7860", True),
        ({}, "[::1]", True),
        ({}, "evil.example:7860", False),
        ({}, "127.0.0.1.evil.example", False),
        ({}, "localhost.evil.example", False),
        ({}, "", False),
        ({"allowed_hosts": ("Chat.example.com",)}, "chat.example.com:443", True),
        ({"allowed_hosts": ("chat.example.com",)}, "evil.example", False),
        ({"allowed_hosts": ("chat.example.com",)}, "localhost:7860", True),
        ({"host": "0.0.0.0"}, "my-machine:7860", True),
        ({"host": "0.0.0.0", "allowed_hosts": ("my-machine",)}, "evil.example", False),
    ],
)
def test_names_that_workbench_answers_to(settings, host, allowed):
    assert host_is_allowed(host, Settings(_env_file=None, **settings)) is allowed


def test_a_name_that_was_made_to_resolve_here_is_refused_everywhere():
    client = make_client(FakeWorkbench())
    for path in ("/", "/v1/models", "/health"):
        response = client.get(path, headers={"host": "evil.example"})
        assert response.status_code == 400
        assert "WORKBENCH_ALLOWED_HOSTS" in response.json()["error"]["message"]


# Bodies.


async def test_long_bodies_are_refused_announced_or_not(client, workbench):
    headers = await headers_of(workbench)

    def chunks(size: int):
        for _ in range(size // 1000):
            yield b"x" * 1000

    assert client.post("/v1/length", content=b"x" * LIMIT, headers=headers).json() == LIMIT
    assert client.post("/v1/length", content=chunks(LIMIT), headers=headers).json() == LIMIT
    for content in (b"x" * (LIMIT + 1), chunks(LIMIT + 1000)):
        response = client.post("/v1/length", content=content, headers=headers)
        assert response.status_code == 413
        assert "10,000 bytes" in response.json()["error"]["message"]
        assert response.json()["error"]["code"] == "body_too_large"


async def test_who_may_not_enter_is_told_so_before_the_body_is_read(client):
    assert client.post("/v1/length", content=b"x" * (LIMIT + 1)).status_code == 401
