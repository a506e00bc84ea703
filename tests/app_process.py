"""The application as a process of its own, for tests that kill, stop or restart it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from tests.conftest import ROOT


class AppProcess:
    """`python app.py` on a free port; its log is kept as lines."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--port", "0", "--data-dir", str(data_dir), *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout_s: float = 60) -> re.Match[str]:
        """The first match of `pattern` in the log."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while not (match := re.search(pattern, self.log)):
                left = deadline - time.monotonic()
                assert left > 0, f"no '{pattern}' within {timeout_s} s in:\n{self.log}"
                self._news.wait(min(left, 1))
        return match

    @property
    def url(self) -> str:
        return self.wait_for(r"page is up at (http://\S+)")[1]

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "workbench.pool.worker_main" in " ".join(child.cmdline())]

    def worker_of(self, model: str) -> int:
        """The pid of the worker that took `model` last."""
        name = re.findall(rf"serving .*model={model} .*worker=(\w+)", self.log)[-1]
        return next(w.pid for w in self.workers() if f"--name=wb-{name}" in w.cmdline())

    def terminate(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 30) -> float:
        """Send a signal; returns the seconds until the process was gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout_s)
        return time.monotonic() - began


@contextlib.contextmanager
def running_app(data_dir: Path, *flags: str) -> Iterator[AppProcess]:
    app = AppProcess(data_dir, *flags)
    try:
        yield app
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.process.pid, signal.SIGKILL)
        app.process.wait(10)


@contextlib.contextmanager
def open_event_stream(url: str) -> Iterator[None]:
    """What a connected browser keeps open."""
    with httpx.stream("GET", f"{url}/events", timeout=None) as response:
        next(response.iter_lines())
        yield
