"""How long until Workbench can be used, from the start of its process.

Starts `python app.py` with an empty data folder and watches it from outside: when the page is first served
(`page_s`), when a worker is warm and the engine is imported, so that any model can be loaded
(`pool_warm_s`), and when the first answer to a message typed into the page, in a real browser, is complete
(`first_answer_s`; the message is sent as soon as the page is there, so this is also the longest wait).
"""

import contextlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import httpx
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.report import Figures, parser, publish
from scripts.chromium import find_chromium

TIMEOUT_S = 180
POLL_S = 0.02
QUESTION, ANSWER = "38 + 47", "= 85"


@contextlib.contextmanager
def application() -> Iterator[tuple[float, str, dict[str, float]]]:
    """(time of the start, URL, times of log lines that are waited for) of a fresh application."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--data-dir", data],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seen: dict[str, float] = {}
        threading.Thread(target=_watch, args=(process, seen), daemon=True).start()
        try:
            yield began, f"http://127.0.0.1:{port}", seen
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _watch(process: "subprocess.Popen[str]", seen: dict[str, float]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        for event in ("engine is imported", "worker is warm"):
            if event in line:
                seen.setdefault(event, time.perf_counter())


def wait_for_page(url: str) -> None:
    """Return once the page is served."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).is_success:
                return
        time.sleep(POLL_S)
    raise TimeoutError(f"No page at {url} within {TIMEOUT_S} s.")


def ask(page: Page) -> None:
    """Type a sum into the page and wait for its answer."""
    expect(page.get_by_label("Model", exact=True)).to_have_value(
        re.compile("adder"), timeout=TIMEOUT_S * 1000
    )
    page.get_by_label("Message", exact=True).fill(QUESTION)
    page.get_by_label("Message", exact=True).press("Enter")
    expect(page.locator("#chat .bot-row").last).to_contain_text(ANSWER, timeout=TIMEOUT_S * 1000)


def measure(page: Page) -> tuple[float, float, float]:
    """(page_s, pool_warm_s, first_answer_s) of one start."""
    with application() as (began, url, seen):
        wait_for_page(url)
        page_s = time.perf_counter() - began
        page.goto(url)
        ask(page)
        first_answer_s = time.perf_counter() - began
        page.goto("about:blank")
        return page_s, max(seen.values()) - began, first_answer_s


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--starts", type=int, default=3, help="how often to start")
    options = arguments.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        page = browser.new_page()
        rounds = [measure(page) for _ in range(options.starts)]
        browser.close()
    figures: Figures = {}
    for name, values in zip(("page", "pool_warm", "first_answer"), zip(*rounds, strict=True), strict=True):
        figures[f"{name}_s"] = round(statistics.median(values), 2)
        figures[f"{name}_all_s"] = [round(value, 2) for value in values]
    publish(figures, options.json)


if __name__ == "__main__":
    main()
