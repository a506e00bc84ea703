"""The Pool page in a browser, over the fake workbench."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.ui.browsing import open_page, wait_until
from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench
from workbench.values import Departure

pytestmark = pytest.mark.e2e


@pytest.fixture
def pool(chat: Page, server: Server) -> Page:
    open_page(chat, server, "/pool")
    return chat


def test_the_pool_loads_pins_unloads_and_asks_before_it_cuts_work_off(pool: Page, workbench: FakeWorkbench):
    expect(pool.get_by_test_id("device")).to_contain_text("Nothing is loaded here.")
    pool.get_by_label("Load a model").select_option("storyteller")
    pool.get_by_role("button", name="Load", exact=True).click()
    card = pool.get_by_test_id("worker").first
    expect(card.get_by_test_id("runner")).to_contain_text("storyteller")
    expect(card).to_contain_text(re.compile(r"Weights\s*9.6 MB\s*KV cache\s*64.0 MB\s*Context\s*512 tokens"))
    expect(card).to_contain_text("0.8 of 2 cores")
    expect(pool.get_by_test_id("next")).to_contain_text("Next to give way: storyteller, unused for 1")
    pool.get_by_role("button", name="Pin storyteller").click()
    expect(pool.get_by_test_id("next")).to_contain_text("storyteller stays: it is pinned.")
    expect(card.get_by_text("pinned", exact=True)).to_be_visible()
    workbench.in_flight = 2
    pool.get_by_role("button", name="Unload storyteller").click()
    expect(pool.get_by_role("dialog")).to_contain_text("2 request")
    pool.get_by_role("button", name="Cancel").click()
    assert workbench.model("storyteller").residency == "device"
    pool.get_by_role("button", name="Restart worker-1").click()
    pool.get_by_role("dialog").get_by_role("button", name="Restart anyway").click()
    wait_until(pool, lambda: workbench.calls[-1] == ("restart", ("worker-1", True)))
    pool.get_by_role("button", name="Drain worker-1").click()
    pool.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(card).to_contain_text("finishes 2 requests, then leaves")
    expect(pool.get_by_role("button", name="Drain worker-1")).to_have_count(0)
    pool.get_by_role("button", name="Unload storyteller").click()
    pool.get_by_role("button", name="Unload anyway").click()
    expect(pool.get_by_test_id("runner")).to_have_count(0)
    expect(pool.get_by_test_id("pinned")).to_contain_text("is pinned, and not loaded")
    pool.get_by_role("button", name="Unpin storyteller").click()
    expect(pool.get_by_test_id("pinned")).to_have_count(0)


def test_workers_that_are_gone_say_why_and_keep_their_log(pool: Page, workbench: FakeWorkbench):
    now = time.monotonic()
    workbench.pool_admin.departures = (
        Departure("w7", "cpu", "adder", 2, "was killed (SIGKILL)", False, now - 65),
        Departure("w6", "cpu", "", 0, "was drained by an administrator", True, now - 130),
    )
    workbench.pool_admin.logs["w7"] = [["ERROR last words"]]
    gone = pool.get_by_test_id("departure")
    expect(gone.first).to_contain_text("w7 was killed (SIGKILL). 2 requests of adder broke off.")
    expect(gone.nth(1)).to_contain_text("w6 was drained by an administrator. It held no model.")
    pool.get_by_role("button", name="Log of w7").click()
    expect(pool.get_by_role("dialog").locator("li.error")).to_have_text("ERROR last words")
    expect(pool.get_by_role("dialog").get_by_role("status")).to_contain_text(
        "w7 has ended; this is all it wrote."
    )


def test_a_log_is_followed_filtered_and_paused_and_is_only_text(pool: Page, workbench: FakeWorkbench):
    hostile = '<img src=x onerror="document.title=1">'
    workbench.pool_admin.logs["worker-1"] = [
        ["INFO loading", "WARNING slow disk", hostile],
        *([["INFO step"]] * 8),
    ]
    pool.get_by_role("button", name="Log of worker-1").click()
    log = pool.get_by_role("dialog")
    expect(log.get_by_text(hostile)).to_be_visible()
    expect(log.locator("li.warning")).to_have_text("WARNING slow disk")
    log.get_by_role("button", name="Pause").click()
    expect(log.get_by_role("status")).to_contain_text("more came")
    shown = log.locator("li").count()
    log.get_by_role("searchbox").fill("SLOW")
    expect(log.locator("li:visible")).to_have_text(["WARNING slow disk"])
    expect(log.get_by_role("status")).to_contain_text(f"1 of {shown} lines")
    log.get_by_role("searchbox").fill("")
    log.get_by_role("button", name="Go on").click()
    expect(log.locator("li")).to_have_count(11)
    pool.keyboard.press("Escape")
    expect(pool.get_by_role("dialog")).to_have_count(0)
    expect(pool).to_have_title(re.compile(r"^[A-Z]\w+ · Workbench$"))


def test_only_logs_of_known_workers_are_read(pool: Page, server: Server):
    for name in ("worker-9", "..%2F..%2Fworkbench", "../../etc/passwd"):
        assert pool.request.get(f"{server.url}/logs/{name}").status == 404, name
