"""Workbench as a server, as its users run it: keys asked for, and JSON logs."""

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.peers.chat import Answer
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


@dataclass(frozen=True, slots=True)
class Running:
    """A Workbench that serves."""

    client: httpx.Client
    """May do everything."""
    key: str
    data: Path
    """Its data folder."""


@contextlib.contextmanager
def workbench_server(models: Mapping[str, Path], *flags: str) -> Iterator[Running]:
    """A fresh Workbench whose catalog has `models`, folders by name, and a warm worker.

    Args:
        models: those that its catalog has anyway may be among them.
        flags: what else it is started with.

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
            yield Running(client, key, Path(data))


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
    with workbench_server({"model": folder}, *flags) as running:
        running.client.post("/admin/models/model/load").raise_for_status()
        wait_for_workers(running.client)
        yield Address(str(running.client.base_url), "model", running.key)


@contextlib.contextmanager
def switching(
    models: Sequence[Path], kv_cache_bytes: int, budget_bytes: int, device: str
) -> Iterator[Server]:
    """A Workbench that switches between models, of which one fits at a time, as a peer is measured.

    Each has been loaded, prepared and put to sleep once. In the end it is made sure that there were switches.

    Raises:
        RuntimeError: a request that was meant to switch did not wake its model.
    """
    named = {folder.name: folder for folder in models}
    flags = {"kv-cache-bytes": kv_cache_bytes, "memory-budget": budget_bytes, "device": device}
    with workbench_server(named, *(f"--{name}={value}" for name, value in flags.items())) as running:
        server = _Switching(running.client, {folder: name for name, folder in named.items()})
        for number, folder in enumerate(models, 1):
            server.ask(folder, "Hello", max_tokens=1)
            _wait_until_prepared(running.data, number)
        wait_for_workers(running.client)
        for folder in [*models, *models]:  # mapped, put to sleep, and woken
            server.ask(folder, "Hello", max_tokens=1)
        switches, wakes = server.switches, _wakes(running.client)
        yield server
        switches, wakes = server.switches - switches, _wakes(running.client) - wakes
        if wakes != switches:
            raise RuntimeError(f"Of {switches} requests for the other model, {wakes} woke it.")


@dataclass(frozen=True)
class _Switching(Server):
    """Counts requests for another model than the last."""

    asked: list[Path] = field(default_factory=list)

    def ask(self, model: Path, prompt: str, max_tokens: int, said: Sequence[str] = ()) -> Answer:
        self.asked.append(model)
        return super().ask(model, prompt, max_tokens, said)

    @property
    def switches(self) -> int:
        return sum(1 for before, after in itertools.pairwise(self.asked) if before != after)


def _wait_until_prepared(data: Path, count: int) -> None:
    """Wait until so many models' weights are prepared, which happens while nothing is asked."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while len(list((data / "prepared").glob("*.json"))) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Of {count} models, not all were prepared within {START_TIMEOUT_S} s.")
        time.sleep(POLL_S)


def _wakes(client: httpx.Client) -> int:
    swaps = client.get("/admin/swaps", params={"limit": 1000}).raise_for_status().json()["data"]
    return sum(1 for swap in swaps if swap["woken"])
