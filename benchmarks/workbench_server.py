"""Workbench as a server, as its users run it: keys asked for, JSON logs, metrics scraped."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.peers.server import free_port, started

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and what it wants to be told."""

    url: str
    model: str
    key: str = ""
    """Sent as a bearer token."""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextlib.contextmanager
def workbench_server(folder: Path, kv_cache_bytes: int, otlp_endpoint: str = "") -> Iterator[Address]:
    """A fresh Workbench that has the model of `folder` loaded, and a spare worker.

    Args:
        folder: the model.
        kv_cache_bytes: of each model.
        otlp_endpoint: where traces go; none are made by default.

    Raises:
        RuntimeError: it does not come to serve; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        app = [sys.executable, "app.py"]
        key = subprocess.run(
            [*app, "keys", "create", "benchmark", "--scope", "admin", "--data-dir", data],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        port = free_port()
        command = [
            *app, "--port", str(port), "--data-dir", data, "--model-roots", str(folder.parent.resolve()),
            "--kv-cache-bytes", str(kv_cache_bytes), "--require-keys", "always", "--log-json",
        ]  # fmt: skip
        if otlp_endpoint:
            command += ["--otlp-endpoint", otlp_endpoint]
        with started("workbench", command, port, "/health", START_TIMEOUT_S) as client:
            client.headers["Authorization"] = f"Bearer {key}"
            client.timeout = httpx.Timeout(START_TIMEOUT_S)
            body = {"folder": str(folder.resolve()), "name": "model"}
            client.post("/admin/models/local", json=body).raise_for_status()
            client.post("/admin/models/model/load").raise_for_status()
            while "starting" in client.get("/admin/status").json()["workers"]:
                time.sleep(0.5)
            yield Address(f"http://127.0.0.1:{port}", "model", key)
