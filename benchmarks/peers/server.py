"""A peer's HTTP server as a child process: started, waited for, asked, and ended with all its processes."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.cache import CACHE
from benchmarks.peers.chat import Answer, ask

START_TIMEOUT_S = 300
LOG_TAIL_LINES = 20
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
KEEP_ALIVE = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75"}
"""Seconds. A vLLM server that waits for its turn would close the client's connections just as it sends."""


@dataclass(frozen=True)
class Server:
    """A peer that serves: its client, and how it calls each model folder."""

    client: httpx.Client
    names: Mapping[Path, str]
    reset_path: str | None = None

    def ask(self, model: Path, prompt: str, max_tokens: int, said: Sequence[str] = ()) -> Answer:
        """A greedy answer of `model`, which the server loads first where it has not; see `chat.ask`."""
        return ask(self.client, self.names[model], prompt, max_tokens, said)

    def make_room(self) -> None:
        """Have a server that would keep every model it has ever loaded unload them; others need no asking."""
        if self.reset_path:
            self.client.post(self.reset_path, timeout=60).raise_for_status()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(
    name: str,
    command: Sequence[str],
    port: int,
    ready_path: str,
    start_timeout_s: float = START_TIMEOUT_S,
) -> Iterator[httpx.Client]:
    """A client of the server that `command` starts on `port`, once a GET of `ready_path` succeeds.

    What it prints goes to `benchmarks/.cache/logs/NAME.log`. Raises RuntimeError, with the log's last lines,
    where the server ends before it serves or does not serve in time.
    """
    log = CACHE / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | QUIET | KEEP_ALIVE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            problem = _wait_until_ready(process, client, ready_path, start_timeout_s)
            if problem:
                raise RuntimeError(f"{name} {problem}. The end of {log}:\n{_tail(log)}")
            yield client
    finally:
        _end(process)


def _end_with_parent() -> None:
    """Runs in the child: the kernel ends it should the benchmark be killed, which runs no `finally`."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until_ready(
    process: subprocess.Popen[bytes], client: httpx.Client, path: str, timeout_s: float
) -> str:
    """Return "" once `path` can be read, else what went wrong."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with exit code {process.returncode} before it served"
        with contextlib.suppress(httpx.TransportError):
            if client.get(path, timeout=5).is_success:
                return ""
        time.sleep(0.05)
    return f"did not serve within {timeout_s:.0f} s"


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
