"""The KV cache page in a browser, over made-up caches: what it draws, tells and survives."""

import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.made_up_kv import busy, full, request, snapshot
from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench
from tests.ui.test_render import HOSTILE
from workbench.values import KvCacheView

pytestmark = pytest.mark.e2e

PHONE = {"width": 390, "height": 844}
IS_BLANK = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size < 3;
}"""


@pytest.fixture
def kv(page: Page, workbench: FakeWorkbench) -> Page:
    """A page that must not throw."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def open_kv(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/kv")
    expect(page.get_by_test_id("kv-cache").first).to_be_visible(timeout=20_000)


def readout(page: Page):
    return page.locator(".kv-readout").first


def test_blocks_tables_and_steps_are_drawn_and_told(kv: Page, server: Server, workbench: FakeWorkbench):
    workbench.kv = [KvCacheView("storyteller", busy())]
    open_kv(kv, server)
    expect(kv.get_by_test_id("kv-request")).to_have_count(8)
    row = kv.get_by_test_id("kv-request").nth(2)
    expect(row).to_contain_text("Request 3")
    expect(row).to_contain_text("52: 44 prompt, 8 answer")
    expect(row).to_contain_text("3 of 16")
    expect(row).to_contain_text("32 tokens, 2 blocks")
    assert row.locator(".kv-chips span").all_inner_texts() == ["1", "2", "7", "8"]
    for canvas in (".kv-map", ".kv-steps"):
        assert not kv.locator(canvas).evaluate(IS_BLANK)
    expect(kv.get_by_text("18 blocks in use by 8 requests, 2 of them shared")).to_be_visible()
    expect(kv.get_by_text(re.compile("requests joined and .* left"))).to_be_visible()
    kv.locator(".kv-steps").hover(position={"x": 1100, "y": 25})
    told = kv.locator(".kv-readout").last
    expect(told).to_contain_text(
        re.compile(r"Request 1 joined the batch 5.00 s ago; its prompt took 0.20 s, and it")
    )
    kv.locator(".kv-steps").hover(position={"x": 1100, "y": 250})
    expect(told).to_contain_text(re.compile(r"ago, in half a second: \d+ steps? with prefill"))


def test_the_map_is_read_with_keys_and_pointer_and_keeps_its_place(
    kv: Page, server: Server, workbench: FakeWorkbench
):
    workbench.kv = [KvCacheView("storyteller", busy())]
    open_kv(kv, server)
    kv.locator(".kv-map").focus()
    kv.keyboard.press("Home")
    expect(readout(kv)).to_contain_text("Block 0 is a placeholder")
    kv.keyboard.press("ArrowRight")
    expect(readout(kv)).to_contain_text(
        "Block 1 is shared by requests 1, 2, 3, 4, 5, 6, 7, 8, as block 0 of each"
    )
    for _ in range(4):
        kv.keyboard.press("ArrowRight")
    expect(readout(kv)).to_contain_text("Block 5 is block 2 of request 2: tokens 33 to 48, 16 of 16 filled.")
    expect(kv.locator("[aria-live=polite]", has_text="Block 5 is block 2 of request 2")).to_have_count(1)
    kv.keyboard.press("End")
    expect(readout(kv)).to_contain_text("Block 339 is free.")
    kv.keyboard.press("Escape")
    kv.locator(".kv-map").hover(position={"x": 5, "y": 5})
    expect(readout(kv)).to_contain_text("Block 0")
    kv.locator(".kv-map").focus()
    for _ in range(2):
        kv.keyboard.press("ArrowRight")
    expect(readout(kv)).to_contain_text("Block 2 is shared by requests 1, 2, 3")
    workbench.kv = [KvCacheView("storyteller", busy(requests=1))]
    expect(readout(kv)).to_contain_text("Block 2 is block 1 of request 1")
    assert kv.evaluate("document.activeElement.className") == "kv-map"


def test_a_phone_shows_it_all_without_scrolling_sideways(
    browser: Browser, server: Server, workbench: FakeWorkbench
):
    workbench.kv = [KvCacheView("storyteller", busy())]
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    open_kv(page, server)
    expect(page.get_by_test_id("kv-request")).to_have_count(8)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator(".kv-map").tap(position={"x": 27, "y": 5})
    expect(readout(page)).to_contain_text("Block 1 is shared")
    context.close()


def test_100_000_blocks_are_drawn_at_once(kv: Page, server: Server, workbench: FakeWorkbench):
    workbench.kv = [KvCacheView("huge", full(100_000, 64))]
    open_kv(kv, server)
    expect(kv.get_by_test_id("kv-request")).to_have_count(64)
    expect(readout(kv)).to_contain_text("Each cell stands for 98 blocks")
    kv.locator(".kv-map").focus()
    kv.keyboard.press("Home")
    expect(readout(kv)).to_contain_text("Blocks 0 to 97: 97 in use, 0 of them shared, 0 kept, 0 free.")
    row = kv.get_by_test_id("kv-request").first
    folded = row.locator(".kv-chips li").count()
    row.get_by_role("button", name="All blocks of request 1").click()
    assert row.locator(".kv-chips li").count() >= folded


def test_hostile_names_stay_text(kv: Page, server: Server, workbench: FakeWorkbench):
    hostile = [
        KvCacheView(name, snapshot(40, [request(n + 1, [1, 2], id=name), request(n + 9, [3, 4], id=name)]))
        for n, name in enumerate(HOSTILE[:6])
    ]
    workbench.kv = hostile
    open_kv(kv, server)
    expect(kv.get_by_test_id("kv-request")).to_have_count(12)
    for name in HOSTILE[:6]:
        expect(kv.get_by_role("heading", name=name, exact=True)).to_be_visible()
    assert kv.locator("#kv-cache :is(script, img, iframe, [onerror], [onmouseover])").count() == 0
    assert kv.locator(".kv-id").first.inner_text() in HOSTILE


def test_a_long_step_is_said_and_a_model_that_leaves_goes(kv: Page, server: Server, workbench: FakeWorkbench):
    workbench.kv = [
        KvCacheView("new", None, waiting_s=3),
        KvCacheView("old", busy(), age_s=5, waiting_s=4),
        KvCacheView("broken", busy(), failed=True),
    ]
    open_kv(kv, server)
    expect(kv.get_by_text(re.compile(r"Waiting for the engine's step to end: \d+ s so far"))).to_be_visible()
    expect(kv.get_by_text(re.compile(r"This picture is \d+ s old"))).to_be_visible()
    expect(kv.get_by_text("The engine could not tell")).to_be_visible()
    workbench.kv = []
    expect(kv.get_by_text("No model serves now.")).to_be_visible()


def test_frames_come_twice_a_second(kv: Page, server: Server, workbench: FakeWorkbench):
    workbench.kv = [KvCacheView("storyteller", busy())]
    open_kv(kv, server)
    began, changes = time.monotonic(), 6
    for count in range(changes):
        workbench.kv = [KvCacheView("storyteller", busy(requests=count + 1))]
        expect(kv.get_by_test_id("kv-request")).to_have_count(count + 1)
    assert time.monotonic() - began < changes * 0.9
