"""Workers, clients and devices that only pretend, and a controller over them."""

import asyncio
import contextlib
import gzip
import time
from collections import Counter
from pathlib import Path

from workbench.engine.host import LoadTimes
from workbench.engine.memory import MemoryReading
from workbench.engine.spec import ModelSpec
from workbench.pool.bring_up import BringUpTimes
from workbench.pool.controller import Controller
from workbench.pool.devices import Device
from workbench.pool.health import Limits
from workbench.pool.messages import Cleaned, Crashed, Loaded, LoadFailed, Released, Warmed
from workbench.pool.policy import decide
from workbench.pool.states import WorkerEvent, WorkerState, next_state
from workbench.pool.worker import EVENT_OF_REPORT, Worker

MEMORY = MemoryReading(1, 0)
TIMES = LoadTimes(0.1, 0.2, 0.3)


class FakeWorker:
    """Obeys at once; a test can make it fail or die."""

    def __init__(self, worker_id, device):
        self.id, self.device, self.pid = worker_id, device, 0
        self.state = WorkerState.STARTING
        self.started_at = self.state_since = self.heard_at = self.pinged_at = self.asked_at = 0.0
        self.excused_state_s = self.excused_step_s = 0.0
        self.swaps, self.step_s, self.memory, self.crash_reason = 0, 0.0, MEMORY, ""
        self.start_s, self.pings = 12.5, 0
        self.was_warm = self.dismissed = self.draining = False
        self.last_held = {}
        self.reports = asyncio.Queue()
        self.leaves_behind = 0
        self.hold_loads = False
        self.say(Warmed(MEMORY))

    def say(self, report):
        self.reports.put_nowait(report)

    def die(self, how="was killed (SIGKILL)"):
        self.reports.put_nowait(how)

    def apply(self, event):
        self.state, self.state_since = next_state(self.state, event), time.monotonic()
        self.was_warm |= self.state is WorkerState.WARM

    def load(self, config, input_address, output_address):
        self.apply(WorkerEvent.LOAD)
        self.swaps += 1
        if not self.hold_loads:
            self.say(Loaded(TIMES))

    def unload(self):
        held = self.state is WorkerState.LOADING
        self.apply(WorkerEvent.UNLOAD)
        self.say(LoadFailed("cancelled") if held else Released())
        self.say(Cleaned(self.leaves_behind, MEMORY))

    def snapshot(self, held):
        return Worker.snapshot(self, held)

    def ping(self):
        self.pings += 1

    def excuse(self, seconds):
        Worker.excuse(self, seconds)

    def stop(self):
        self.dismissed = True
        self.apply(WorkerEvent.STOP)
        self.die("ended with exit code 0")

    kill = die

    async def listen(self, on_report):
        while not isinstance(report := await self.reports.get(), str):
            if event := EVENT_OF_REPORT.get(type(report)):
                self.apply(event)
            on_report(self, report)
        self.apply(WorkerEvent.DIED)
        return report

    async def end(self):
        self.apply(WorkerEvent.DIED)
        return "was killed (SIGKILL)"


class FakeClient:
    """Sleeps, wakes and pins at once; a test can hold these up, or make them fail."""

    context_length = 256

    def __init__(self):
        self.failed = None
        self.closed = False
        self.calls = []
        self.errors = {}
        self.gates = {}
        """What to wait for before a call ends."""
        self.unpinned = 2

    def hold(self, call):
        self.gates[call] = asyncio.Event()

    def let_go(self, call):
        self.gates.pop(call).set()

    async def _call(self, name, *arguments):
        self.calls.append((name, *arguments))
        if gate := self.gates.get(name):
            await gate.wait()
        if error := self.errors.get(name):
            raise error

    async def sleep(self, level):
        await self._call("sleep", level)

    async def wake(self):
        await self._call("wake")

    async def start_profile(self, directory, name, max_steps):
        await self._call("start_profile")
        self.profile = Path(directory, f"{name}_rank0")

    async def stop_profile(self):
        await self._call("stop_profile")
        self.profile.with_name(f"{self.profile.name}.profiler_out.txt").write_text("a table")
        trace = self.profile.with_name(f"{self.profile.name}.17.pt.trace.json.gz")
        trace.write_bytes(gzip.compress(b'{"traceEvents": []}'))

    async def pin_host_memory(self):
        await self._call("pin")
        self.unpinned -= 1
        return self.unpinned

    def fail(self, error):
        self.failed = error

    def stop_listening(self):
        pass

    async def close(self):
        self.closed = True


class Pool:
    """A controller and everything it made."""

    def __init__(self, budget=100, max_workers=3, host_budget=None, decide=decide, pinned=None, **limits):
        self.workers, self.clients, self.swaps = [], [], []
        self.client_of = {}
        self.hold_loads = False
        self.launch_error = None
        self.crash_at_start = False
        device = Device(
            "device", "Device", 1000, budget, max_workers, host_budget is not None, host_budget or 0
        )
        self.task = None
        self.configured = asyncio.Event()
        self.configured.set()
        self.controller = Controller(
            (device,),
            Limits(**limits),
            self.launch,
            self.bring_up,
            on_change=self.on_change,
            on_swap=self.swaps.append,
            decide=decide,
            pinned=pinned or (lambda model: False),
        )
        self.changed = asyncio.Condition()

    def on_change(self):
        async def notify():
            async with self.changed:
                self.changed.notify_all()

        self.notification = asyncio.ensure_future(notify())

    async def launch(self, worker_id, device):
        if self.launch_error:
            raise self.launch_error
        worker = FakeWorker(worker_id, device)
        worker.hold_loads = self.hold_loads
        if self.crash_at_start:
            worker.reports = asyncio.Queue()
            worker.say(Crashed("no module named vllm"))
            worker.die("ended with exit code 1")
        self.workers.append(worker)
        return worker

    async def bring_up(self, spec, worker, memory, loaded):
        await self.configured.wait()
        worker.load(b"", "", "")
        times = await loaded
        client = FakeClient()
        self.clients.append(client)
        self.client_of[spec.name] = client
        return client, BringUpTimes(0.0, times, 0.0)

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def until(self, condition):
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(condition)

    def states(self):
        return Counter(worker.state for worker in self.controller.snapshot().workers)

    def on_device(self):
        return {runner.model for runner in self.controller.snapshot().runners}

    def runners(self):
        return {runner.model: runner.state for runner in self.controller.snapshot().runners}


@contextlib.asynccontextmanager
async def running(**arguments):
    pool = Pool(**arguments)
    pool.task = asyncio.create_task(pool.controller.run())
    try:
        yield pool
    finally:
        await pool.end()


def spec(name, size=40):
    return ModelSpec(name, f"/models/{name}", size - 10, 10, 0)


async def use(pool, name, size=40):
    async with pool.controller.ask(spec(name, size)) as ticket:
        return await ticket.lease()
