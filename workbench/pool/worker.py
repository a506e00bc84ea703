"""The app's side of a worker process: start it, talk to it, tell when it is gone.

Everything in this file runs in the app.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workbench.engine.environment import worker_environment
from workbench.engine.memory import MemoryReading
from workbench.pool.messages import (
    HEADER,
    Cleaned,
    Command,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Released,
    Report,
    Unload,
    Warmed,
    frame,
)
from workbench.pool.snapshot import WorkerSnapshot
from workbench.pool.states import WorkerEvent, WorkerState, next_state

EVENT_OF_REPORT: dict[type, WorkerEvent] = {
    Warmed: WorkerEvent.WARMED,
    Loaded: WorkerEvent.LOADED,
    LoadFailed: WorkerEvent.LOAD_FAILED,
    Released: WorkerEvent.RELEASED,
    Cleaned: WorkerEvent.CLEANED,
}

SHARED_MEMORY = Path("/dev/shm")


class Worker:
    """A worker process and what the app knows of it. Owned by the controller's task."""

    def __init__(
        self,
        worker_id: str,
        device: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.id = worker_id
        self.device = device
        self.state = WorkerState.STARTING
        self.started_at = self.state_since = self.heard_at = self.pinged_at = time.monotonic()
        self.asked_at = self.heard_at
        """When the first ping was sent that has not been answered; not after `heard_at` if all were."""
        self.swaps = 0
        self.memory = MemoryReading(0, 0)
        self.step_s = 0.0
        self.excused_state_s = self.excused_step_s = 0.0
        """Of its state and its engine step, what the app stood still for."""
        self.last_held: dict[str, float] = {}
        """Monotonic time when it was last given each model that it has ever had."""
        self.was_warm = False
        """Whether it has ever been ready for a model."""
        self.start_s = 0.0
        """What its start took, from the process to warm; 0 until then."""
        self.draining = False
        """Whether it is to end as soon as what is in flight on it is over."""
        self.dismissed = False
        """Whether the app told it to end."""
        self.crash_reason = ""
        """Why it ends, when the app knows better than its exit code; the end of a sentence."""
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(
        cls,
        worker_id: str,
        device: str,
        log_path: Path,
        json_logs: bool,
        prepared_dir: Path,
        prepared_bytes: int,
    ) -> "Worker":
        """Start a process; it reports Warmed once it can take a model.

        Args:
            worker_id: unique for the app's life.
            device: "cpu" or "cuda:NAME".
            log_path: file that its output goes to.
            json_logs: whether it logs a JSON object a line.
            prepared_dir: folder of prepared weights, shared by all workers.
            prepared_bytes: what that folder may hold.
        """
        ours, theirs = socket.socketpair()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with theirs, log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "workbench.pool.worker_main",
                f"--pipe={theirs.fileno()}",
                f"--device={device}",
                f"--name=wb-{worker_id}",
                f"--prepared={prepared_dir}",
                f"--prepared-bytes={prepared_bytes}",
                *(("--json-logs",) if json_logs else ()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=worker_environment(device, os.environ),
                # Ctrl-C in the terminal is the app's to handle. Not a session of its own: the kernel's
                # autogroups would weigh priorities only among the threads of one worker.
                process_group=0,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(worker_id, device, process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    def apply(self, event: WorkerEvent) -> None:
        """Move to the next state; an illegal event raises."""
        self.state = next_state(self.state, event)
        self.state_since, self.excused_state_s = time.monotonic(), 0.0
        if self.state is WorkerState.WARM and not self.was_warm:
            self.was_warm = True
            self.start_s = self.state_since - self.started_at

    def load(self, config: bytes, input_address: str, output_address: str) -> None:
        """Tell the worker to load; `swaps` counts it."""
        self.apply(WorkerEvent.LOAD)
        self.swaps += 1
        self._send(Load(self.swaps, config, input_address, output_address))

    def unload(self) -> None:
        """Tell the worker to give its model back, or to give up its load."""
        self.apply(WorkerEvent.UNLOAD)
        self._send(Unload(self.swaps))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.pinged_at = time.monotonic()
        if self.asked_at <= self.heard_at:
            self.asked_at = self.pinged_at
        self._send(Ping())

    def excuse(self, seconds: float) -> None:
        """Leave out of all waits the time in which the app stood still: the worker may have done so, too."""
        now = time.monotonic()
        self.heard_at = min(self.heard_at + seconds, now)
        self.asked_at = min(self.asked_at + seconds, now)
        self.excused_state_s += seconds
        self.excused_step_s += seconds

    def note_step(self, step_s: float) -> None:
        """Note for how long the engine step under way has taken; 0 for none."""
        if not step_s or step_s < self.step_s:  # what was excused is over
            self.excused_step_s = 0.0
        self.step_s = step_s

    def _send(self, command: Command) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame(command))

    async def listen(self, on_report: Callable[["Worker", Report], None]) -> str:
        """Pass each report on, until the process is gone.

        Returns:
            How it ended, as the end of a sentence: "was killed (SIGKILL)", "ended with exit code 1".
        """
        try:
            while True:
                (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                report: Report = pickle.loads(await self._reader.readexactly(length))
                self.heard_at = time.monotonic()
                if self.state is WorkerState.STOPPING:
                    continue  # nothing it says counts any more
                if isinstance(report, Warmed | Cleaned | Pong):
                    self.memory = report.memory
                if isinstance(report, Pong):
                    self.note_step(report.step_s)
                if event := EVENT_OF_REPORT.get(type(report)):
                    self.apply(event)
                on_report(self, report)
        except (asyncio.IncompleteReadError, ConnectionError):
            return await self.end()

    async def end(self) -> str:
        """Make sure that the process is gone; returns how it ended, as `listen` does."""
        self.kill()
        self._writer.close()
        code = await self._process.wait()
        remove_segments(self.pid)
        if self.state is not WorkerState.DEAD:
            self.apply(WorkerEvent.DIED)
        return describe_exit(code)

    def stop(self) -> None:
        """End the process at once, whatever it does: its pipe closes, and `listen` kills what is left."""
        self.dismissed = True
        if self.state not in (WorkerState.STOPPING, WorkerState.DEAD):
            self.apply(WorkerEvent.STOP)
        self._writer.close()

    def kill(self) -> None:
        """Kill the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def snapshot(self, held: tuple[str, int] | None) -> WorkerSnapshot:
        """What people see; `held` is its model and the requests in flight on it."""
        model, in_flight = held or (None, 0)
        return WorkerSnapshot(
            id=self.id,
            device=self.device,
            state=str(self.state),
            state_since=self.state_since,
            model=model,
            pid=self.pid,
            private_bytes=self.memory.private_bytes,
            device_bytes=self.memory.device_bytes,
            started_at=self.started_at,
            swaps=self.swaps,
            in_flight=in_flight,
            draining=self.draining,
        )


def remove_segments(pid: int) -> None:
    """Remove the shared memory that Intel's OpenMP leaves behind in a process that is killed."""
    for segment in SHARED_MEMORY.glob(f"__KMP_REGISTERED_LIB_{pid}_*"):
        with contextlib.suppress(OSError):
            segment.unlink()


def describe_exit(code: int) -> str:
    """An exit code as the end of a sentence about the process."""
    if code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
