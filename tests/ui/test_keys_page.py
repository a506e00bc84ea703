"""Signing in, the Keys page, and what people without the scope `admin` see, in a browser."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import PHONE, answers, open_page, send
from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with Server(FakeWorkbench(require_keys="always")) as running:
        yield running


@pytest.fixture
def admin(guarded: Server) -> str:
    """An administrator's key; there is no other."""
    guarded.workbench.reset()
    return guarded.workbench.add_key("boss", "admin")


def sign_in(page: Page, secret: str) -> None:
    page.get_by_label("Key", exact=True).fill(secret)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_from_the_sign_in_to_the_chat_to_keys_and_out(page: Page, guarded: Server, admin: str, viewport):
    if viewport:
        page.set_viewport_size(viewport)
    page.goto(f"{guarded.url}/models")
    expect(page).to_have_url(re.compile(r"/login\?next=%2Fmodels$"))
    sign_in(page, "wb-wrong")
    expect(page.get_by_role("alert")).to_contain_text("mistyped")
    sign_in(page, admin)
    expect(page).to_have_url(f"{guarded.url}/models")
    expect(page.get_by_role("button", name="Remove qwen3-0.6b")).to_be_visible()
    page.get_by_role("link", name="Chat", exact=True).click()
    send(page, "hello")
    expect(answers(page).last).to_contain_text("adder says: hello")

    page.get_by_role("link", name="Keys").click()
    hostile = '<img src=x onerror="alert(1)">'
    page.locator("#add-key").get_by_label("Name").fill(hostile)
    page.get_by_label("Requests a minute").fill("60")
    page.get_by_role("button", name="Create").click()
    dialog = page.get_by_role("dialog")
    secret = dialog.get_by_role("textbox").input_value()
    assert guarded.workbench.access.caller(f"Bearer {secret}", "").name == hostile
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    dialog.get_by_role("button", name="Done").click()
    row = page.get_by_test_id("key").filter(has_text=hostile)
    expect(row).to_contain_text("60 requests a minute")
    expect(page.locator("#add-key").get_by_label("Name")).to_have_value("")
    assert secret not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]

    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{guarded.url}/login")
    page.goto(guarded.url)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_without_the_scope_admin_the_rest_is_out_of_sight_and_refused(
    page: Page, guarded: Server, admin: str
):
    secret = guarded.workbench.add_key("guest", requests_per_minute=1)
    page.goto(f"{guarded.url}/models?key={secret}")
    expect(page).to_have_url(f"{guarded.url}/models")
    expect(page.get_by_test_id("model").first).to_be_visible()
    expect(page.get_by_role("button", name="Sign out (guest)")).to_be_visible()
    for hidden in ("Remove", "Load", "Download", "Add and download"):
        expect(page.get_by_role("button", name=hidden)).to_have_count(0)
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    page.locator("[data-do=remove]").first.dispatch_event("click")
    expect(page.locator(".toast.bad")).to_contain_text("“guest” may not do that")
    assert guarded.workbench.calls == []
    assert page.request.get(f"{guarded.url}/events?page=keys").status == 403
    assert page.request.get(f"{guarded.url}/logs/worker-1").status == 403

    open_page(page, guarded)
    send(page, "hello")
    expect(answers(page).last).to_contain_text("adder says: hello")
    send(page, "again")
    expect(answers(page).last).to_contain_text("1 requests in the last minute")
    expect(page.get_by_label("Message", exact=True)).to_have_value("again")


def test_a_revoked_key_ends_the_page_that_is_open(page: Page, guarded: Server, admin: str):
    secret = guarded.workbench.add_key("guest")
    page.goto(f"{guarded.url}/pool?key={secret}")
    expect(page.get_by_test_id("worker").first).to_be_visible()
    guarded.workbench.revoke_key("guest")
    expect(page).to_have_url(re.compile(r"/login\?next=%2Fpool$"), timeout=10_000)


def test_a_link_of_another_site_finds_who_is_signed_in(page: Page, guarded: Server, admin: str):
    """SameSite=Strict cookies are not sent along with it, nor with redirects that follow."""
    other_site = guarded.url.replace("127.0.0.1", "localhost")
    page.goto(f"{guarded.url}/?key={admin}")
    expect(page.locator("#pool-status .badge")).to_be_attached()
    for link in ("/models", f"/models?key={admin}"):
        page.goto(f"{other_site}/login")
        page.evaluate("url => { location.href = url }", guarded.url + link)
        expect(page).to_have_url(f"{guarded.url}/models")
        expect(page.get_by_test_id("model").first).to_be_visible()


def test_another_site_can_not_show_the_page_in_a_frame(page: Page, guarded: Server, admin: str):
    response = page.request.get(f"{guarded.url}/login")
    assert "frame-ancestors 'self'" in response.headers["content-security-policy"]
