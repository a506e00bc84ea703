"""A person's way through the real application: engine, database and browser are all real."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Page, expect

from data.demo.tasks import held_out_pairs
from tests.app_process import running_app
from tests.ui.browsing import answers, open_page, pick, send

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(300)]

SUMS = [(a, b) for a, b in sorted(held_out_pairs()) if min(a, b) > 9][::250][:3]
STORY = re.compile(r"\w+(\W+\w+){40,}")
LOAD_MS = 60_000


@contextlib.contextmanager
def slowed(pid: int) -> Iterator[None]:
    """Let a process run a tenth of the time, so that an answer of a tiny model can be caught half-way."""
    ended = threading.Event()

    def stutter() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not ended.wait(0.01):
                os.kill(pid, signal.SIGSTOP)
                ended.wait(0.09)
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stutter)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def ask_story(page: Page, text: str) -> None:
    send(page, text)
    expect(answers(page).last).to_contain_text(STORY, timeout=LOAD_MS)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)


def ask_sum(page: Page, a: int, b: int) -> None:
    before = answers(page).count()
    send(page, f"{a} + {b}")
    expect(answers(page)).to_have_count(before + 1)
    expect(answers(page).last).to_contain_text(f"= {a + b}", timeout=LOAD_MS)
    expect(answers(page).last.get_by_test_id("stats")).to_contain_text("tokens/s")
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=LOAD_MS)


def test_sums_a_story_a_killed_worker_and_a_restart(page: Page, tmp_path):
    budget = ("--memory-budget", "100MiB", "--max-workers", "2")
    with running_app(tmp_path, *budget) as app:
        open_page(page, app)
        pick(page, "adder")
        for a, b in SUMS:
            ask_sum(page, a, b)
        expect(answers(page).first.get_by_test_id("stats")).to_contain_text("switched in")
        expect(answers(page).last.get_by_test_id("stats")).not_to_contain_text("switched in")
        app.wait_for(r"request .*model=adder path=/chat/answer .*tokens=\d+", 5)

        pick(page, "storyteller")
        ask_story(page, "Tell me a story about a fox")
        expect(answers(page).last.get_by_test_id("stats")).to_contain_text("evicting adder")

        pick(page, "adder")
        ask_sum(page, *SUMS[0])
        expect(answers(page).last.get_by_test_id("stats")).to_contain_text("evicting storyteller")

        pick(page, "storyteller")
        ask_story(page, "Tell me a story")
        expect(answers(page).last.get_by_test_id("stats")).to_contain_text("evicting adder")
        storyteller = app.worker_of("storyteller")
        with slowed(storyteller):
            before = answers(page).count()
            send(page, "Tell me a story about a bear")
            expect(answers(page)).to_have_count(before + 1)
            expect(answers(page).last).to_contain_text(re.compile(r"\w+ \w+ \w+ \w+"))
            os.kill(storyteller, signal.SIGKILL)
        error = page.get_by_test_id("error").last
        expect(error).to_contain_text("The worker that ran storyteller was killed (SIGKILL)")

        ask_story(page, "Tell me a story about a bear")
        expect(page.get_by_test_id("error")).to_have_count(1)
        page.get_by_role("button", name="New chat").click()
        expect(answers(page)).to_have_count(0)
        pick(page, "adder")
        ask_sum(page, *SUMS[1])
        workers = app.workers()
        assert workers
        assert app.terminate() < 5
        assert app.process.returncode == 0
        _, alive = psutil.wait_procs(workers, timeout=2)
        assert not alive
        assert "Traceback" not in app.log

    with running_app(tmp_path, *budget) as app:
        open_page(page, app)
        expect(page.get_by_test_id("conversation")).to_have_count(2)
        page.get_by_role("link", name=f"{SUMS[0][0]} + {SUMS[0][1]}").click()
        for a, b in SUMS:
            expect(page.locator("#chat")).to_contain_text(f"= {a + b}")
        expect(page.get_by_test_id("error")).to_contain_text("was killed (SIGKILL)")
        expect(page.locator("#chat")).to_contain_text(STORY)
        page.get_by_role("button", name="New chat").click()
        expect(answers(page)).to_have_count(0)
        pick(page, "adder")
        ask_sum(page, *SUMS[2])
