"""A real Workbench over workers and engines that only pretend: catalog, pool and orders are the real ones."""

import asyncio
import contextlib

from tests.pool.fakes import FakeClient, FakeWorker
from workbench.engine.metrics import EngineMetrics
from workbench.pool.bring_up import BringUpTimes
from workbench.service import Workbench


class PretendedBringUp:
    """Loads at once; there is no engine to import."""

    def __init__(self):
        self.metrics = EngineMetrics()
        self.clients = {}

    async def import_engine(self):
        pass

    async def supported_architectures(self):
        return frozenset({"LlamaForCausalLM"})

    async def prepare(self, spec, device_memory_bytes):
        pass

    async def files_of_load(self, spec, device_memory_bytes, store):
        return []

    async def bring_up(self, spec, worker, device_memory_bytes, loaded):
        worker.load(b"", "", "")
        client = self.clients[spec.name] = FakeClient()
        return client, BringUpTimes(0.0, await loaded, 0.0)

    def close(self):
        pass


class PretendedWorkbench(Workbench):
    """Its workers are warm at once; a test can have loads wait."""

    def __init__(self, data_dir, **settings):
        super().__init__(data_dir=data_dir, device="cpu", max_workers=2, **settings)
        self._bring_up = PretendedBringUp()
        self.workers = {}
        self.hold_loads = False

    async def _start_worker(self, worker_id, device):
        worker = self.workers[worker_id] = FakeWorker(worker_id, device)
        worker.hold_loads = self.hold_loads
        return worker

    def client(self, model):
        """The engine's client of a model that has been loaded."""
        return self._bring_up.clients[model]


@contextlib.asynccontextmanager
async def pretended(data_dir, **settings):
    """A running one."""
    async with PretendedWorkbench(data_dir, **settings) as workbench:
        await until(lambda: workbench.pool().warm)
        yield workbench


async def until(condition):
    """Wait until something has come about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
