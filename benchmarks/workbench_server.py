"""Workbench as a server, as its users run it: keys asked for, and JSON logs."""

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.peers.server import Server, free_port, started

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 600
POLL_S = 0.5


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
def workbench_server(models: Mapping[str, Path], *flags: str) -> Iterator[tuple[httpx.Client, str]]:
    """A fresh Workbench whose catalog has `models`, folders by name, and a warm worker.

    Args:
        models: those that its catalog has anyway may be among them.
        flags: what else it is started with.

    Yields:
        A client that may do everything, and its key.

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
        roots = sorted({str(folder.parent.resolve()) for folder in models.values()})
        command = [
            *app, "--port", str(port), "--data-dir", data, "--model-roots", os.pathsep.join(roots),
            "--require-keys", "always", "--log-json", *flags,
        ]  # fmt: skip
        with started("workbench", command, port, "/health", START_TIMEOUT_S) as client:
            client.headers["Authorization"] = f"Bearer {key}"
            client.timeout = httpx.Timeout(START_TIMEOUT_S)
            known = {model["id"] for model in client.get("/v1/models").json()["data"]}
            for name, folder in models.items():
                if name not in known:
                    body = {"folder": str(folder.resolve()), "name": name}
                    client.post("/admin/models/local", json=body).raise_for_status()
            wait_for_workers(client)
            yield client, key


def wait_for_workers(client: httpx.Client) -> None:
    """Wait until no worker is being started, which would take a core from what is measured."""
    while "starting" in client.get("/admin/status").json()["workers"]:
        time.sleep(POLL_S)


@contextlib.contextmanager
def serving(folder: Path, kv_cache_bytes: int, otlp_endpoint: str = "") -> Iterator[Address]:
    """A Workbench that has the model of `folder` loaded, and a spare worker.

    Args:
        folder: the model.
        kv_cache_bytes: of each model.
        otlp_endpoint: where traces go; none are made by default.
    """
    flags = ["--kv-cache-bytes", str(kv_cache_bytes)]
    if otlp_endpoint:
        flags += ["--otlp-endpoint", otlp_endpoint]
    with workbench_server({"model": folder}, *flags) as (client, key):
        client.post("/admin/models/model/load").raise_for_status()
        wait_for_workers(client)
        yield Address(str(client.base_url), "model", key)


@contextlib.contextmanager
def switching(
    models: Sequence[Path], kv_cache_bytes: int, budget_bytes: int, device: str
) -> Iterator[Server]:
    """A Workbench that switches between models, of which one fits at a time, as a peer is measured.

    Each has been loaded and prepared, and been put to sleep once.
    """
    named = {folder.name: folder for folder in models}
    flags = {"kv-cache-bytes": kv_cache_bytes, "memory-budget": budget_bytes, "device": device}
    with workbench_server(named, *(f"--{name}={value}" for name, value in flags.items())) as (client, _):
        server = Server(client, {folder: name for name, folder in named.items()})
        slept: set[str] = set()
        deadline = time.monotonic() + START_TIMEOUT_S
        for folder in itertools.cycle(models):
            server.ask(folder, "Hello", max_tokens=1)
            cards = client.get("/v1/models").json()["data"]
            slept |= {card["id"] for card in cards if card["residency"] == "asleep"}
            if slept >= set(named):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"Of {', '.join(named)}, only {', '.join(slept) or 'none'} ever slept.")
            time.sleep(POLL_S)  # weights are prepared while nothing is asked
        wait_for_workers(client)
        yield server
