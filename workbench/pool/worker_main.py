"""A worker process: warm up once, then load, serve and unload one model after another.

Everything in this file runs in the worker. The main thread owns the engine; a second thread reads the
pipe, so that a ping is answered and a cancel is heard while the main thread loads or serves.
"""

import argparse
import contextlib
import ctypes
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from workbench.engine.host import EngineHost
from workbench.engine.prepared.store import PreparedStore
from workbench.pool.messages import (
    Cleaned,
    Crashed,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Ping,
    Pong,
    Released,
    Report,
    Unload,
    Warmed,
    frame,
    receive,
)
from workbench.pool.worker_log import write_json_lines

T = TypeVar("T")

log = logging.getLogger("workbench.worker")

PR_SET_PDEATHSIG = 1
PROCESS_PREFIX = "wb-"
"""Of a process's name, before the worker's id."""
PROGRESS_INTERVAL_S = 0.1
WARM_UP_NICENESS = 19
CLEAN_NICENESS = 10
"""Beside a model that answers: a tenth of its share, so that this worker is soon warm all the same."""


class WorkerProcess:
    """The command loop around one EngineHost."""

    def __init__(self, pipe: socket.socket, device: str, prepared: PreparedStore) -> None:
        self._pipe = pipe
        self._send_lock = threading.Lock()
        self._loads: queue.SimpleQueue[Load] = queue.SimpleQueue()
        self._host = EngineHost(device, prepared)
        self._last_progress = 0.0
        self._load_number = 0

    def run(self) -> None:
        """Serve commands until the app closes the pipe; never returns."""
        threading.Thread(target=self._read_commands, name="commands", daemon=True).start()
        self._warm_up()
        self._send(Warmed(self._host.memory()))
        while True:
            self._hold_model(self._loads.get())

    def _warm_up(self) -> None:
        """Import at the lowest priority, so that the page comes up first.

        The rest starts threads, which keep the priority of the one that has started them.
        """
        _nicely(WARM_UP_NICENESS, self._host.import_engine)
        self._host.warm_up()

    def _hold_model(self, command: Load) -> None:
        """One model, from its load to a clean process."""
        from workbench.engine.config import first_line

        failure = ""
        try:
            times = self._host.load(
                command.config, command.input_address, command.output_address, self._report_bytes
            )
        except Exception as error:
            log.exception("the load failed")
            failure = first_line(error)
        if failure:  # outside of `except`, whose traceback holds what was built so far
            self._host.release()
            self._send(LoadFailed(failure))
        else:
            self._send(Loaded(times, self._host.can_sleep))
            self._host.run()
            self._host.release()
            self._send(Released())
        growth_bytes = _nicely(CLEAN_NICENESS, self._host.clean)  # the next model answers meanwhile
        self._send(Cleaned(growth_bytes, self._host.memory()))

    def _report_bytes(self, done_bytes: int) -> None:
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_INTERVAL_S:
            self._last_progress = now
            self._send(LoadProgress(done_bytes))

    def _read_commands(self) -> None:
        try:
            while True:
                match receive(self._pipe):
                    case Load() as command:
                        self._load_number = command.number
                        self._host.expect()
                        self._loads.put(command)
                    case Unload(number) if number == self._load_number:
                        self._host.cancel()
                    case Unload():
                        pass  # that load ended while the command was on its way
                    case Ping():
                        self._send(Pong(self._host.step_s, self._host.memory()))
        except (EOFError, OSError):
            os._exit(0)  # the app is gone; nothing here is worth a tidy end

    def _send(self, report: Report) -> None:
        with self._send_lock:
            self._pipe.sendall(frame(report))

    def crash(self, reason: str) -> None:
        """Tell the app why this process ends."""
        with contextlib.suppress(OSError):
            self._send(Crashed(reason))


def main() -> None:
    """Entry point: `python -m workbench.pool.worker_main --pipe FD --device DEVICE --name NAME …`."""
    ctypes.CDLL("libc.so.6").prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the app's to handle
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipe", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--prepared", type=Path, required=True, help="folder of prepared weights")
    parser.add_argument("--prepared-bytes", type=int, required=True, help="its limit")
    parser.add_argument("--json-logs", action="store_true")
    arguments = parser.parse_args()
    _name_process(arguments.name)
    if arguments.json_logs:
        write_json_lines(arguments.name.removeprefix(PROCESS_PREFIX))
    prepared = PreparedStore(arguments.prepared, arguments.prepared_bytes)
    worker = WorkerProcess(socket.socket(fileno=arguments.pipe), arguments.device, prepared)
    try:
        worker.run()
    except BaseException as error:
        log.exception("the worker ends")
        worker.crash(str(error) or type(error).__name__)
        os._exit(1)  # threads of a failed engine must not hold the process


def _nicely(niceness: int, work: Callable[[], T]) -> T:
    """Do something in a thread of low priority, and wait for it.

    A whole process that was made nicer could not be made less nice again without privileges.
    """

    def lower_priority() -> None:
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))

    with ThreadPoolExecutor(1, "nice", initializer=lower_priority) as thread:
        return thread.submit(work).result()


def _name_process(name: str) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


if __name__ == "__main__":
    main()
