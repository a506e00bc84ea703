"""The application as a process: it starts, refuses what it must, and ends whatever happens."""

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from tests.app_process import AppProcess, open_event_stream, running_app
from tests.conftest import ROOT

pytestmark = pytest.mark.engine


def refusal(app: AppProcess) -> str:
    """The log of an app that ended by itself."""
    assert app.process.wait(30) == 1
    app.wait_for(r"\[error")
    assert "Traceback" not in app.log
    return app.log


def test_an_interrupt_ends_everything_within_5_s_with_a_browser_connected(tmp_path):
    """As SIGTERM does, which ends the first application of tests/e2e/test_journey.py."""
    with running_app(tmp_path) as app:
        with open_event_stream(app.url):
            app.wait_for("engine is imported")
            workers = app.workers()
            assert workers
            assert app.terminate(signal.SIGINT) < 5
        assert app.process.returncode == 0
        _, alive = psutil.wait_procs(workers, timeout=2)
        assert not alive
        assert "Traceback" not in app.log


def test_a_signal_while_everything_still_imports_ends_it_too(tmp_path):
    with running_app(tmp_path) as app, open_event_stream(app.url):
        workers = app.workers()
        assert app.terminate() < 5
        _, alive = psutil.wait_procs(workers, timeout=2)
        assert not alive


def test_the_first_worker_starts_before_the_page_is_imported_and_a_signal_ends_both(tmp_path):
    with running_app(tmp_path) as app:
        deadline = time.monotonic() + 60
        while not (workers := app.workers()):
            assert time.monotonic() < deadline, app.log
            time.sleep(0.05)
        assert "page is up" not in app.log
        app.terminate()
        assert app.process.returncode == 0
        _, alive = psutil.wait_procs(workers, timeout=2)
        assert not alive


def test_a_taken_port_is_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running_app(tmp_path, "--port", str(port)) as app:
            assert f"Port {port} on 127.0.0.1 is taken" in refusal(app)


def test_a_database_in_use_is_a_sentence_and_workers_die_with_the_app_that_is_killed(tmp_path):
    with running_app(tmp_path) as first:
        first.url  # noqa: B018 - waits until it is up
        with running_app(tmp_path) as second:
            log = refusal(second)
            assert "in use by" in log
            assert str(first.process.pid) in log
        assert httpx.get(first.url).is_success
        workers = first.workers()
        assert workers
        first.terminate(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=3)
        assert not alive


def test_a_database_from_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "workbench.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    before = path.read_bytes()
    with running_app(tmp_path) as app:
        assert "newer" in refusal(app)
    assert path.read_bytes() == before


def test_something_that_is_no_database_is_refused(tmp_path):
    shutil.copy(__file__, tmp_path / "workbench.db")
    with running_app(tmp_path) as app:
        assert "workbench.db" in refusal(app)


def test_a_gpu_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with running_app(tmp_path, "--device", "cuda") as app:
        assert "no NVIDIA driver answers" in refusal(app)


def test_the_first_start_with_keys_prints_a_link_that_signs_in_and_keys_are_made_beside_it(tmp_path):
    with running_app(tmp_path, "--require-keys", "always") as app:
        link = app.wait_for(r"sign in with it at (http://\S+) ")[1]
        assert httpx.get(f"{app.url}/session").status_code == 401
        with httpx.Client() as browser:
            assert browser.get(link).headers["location"] == "/"
            assert browser.get(f"{app.url}/session").json()["scopes"] == ["admin", "chat"]
        command = [sys.executable, "app.py", "keys", "create", "ci", "--data-dir", str(tmp_path)]
        key = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        headers = {"Authorization": f"Bearer {key}"}
        deadline = time.monotonic() + 10
        while httpx.get(f"{app.url}/session", headers=headers).status_code == 401:
            assert time.monotonic() < deadline, "the running application doesn't notice the key"
            time.sleep(0.2)
        assert key not in app.log
