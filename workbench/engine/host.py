"""The worker's side of the engine: warm up once, then load, run and unload one model after another."""

import gc
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from workbench.engine.memory import MemoryReading, read_memory, trim_heap
from workbench.engine.prepared.store import PreparedStore

if TYPE_CHECKING:
    from workbench.engine.core import WarmEngineCore
    from workbench.engine.packing import Pack
    from workbench.engine.prepared.maps import KeptMaps
    from workbench.engine.prepared.preparation import Preparation


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """Seconds of each phase of a load, in order."""

    create_s: float
    """Engine core and device set up, up to the first weight."""
    weights_s: float
    kv_cache_s: float
    """KV cache allocated, scheduler and sockets up."""

    @property
    def total_s(self) -> float:
        """The whole load."""
        return self.create_s + self.weights_s + self.kv_cache_s


class EngineHost:
    """Holds at most one engine core.

    `expect`, `cancel` and `step_s` may be used from any thread; the rest belongs to the main thread.
    """

    def __init__(self, device: str, prepared: PreparedStore | None = None) -> None:
        self._device = device
        self._store = prepared
        self._maps: KeptMaps | None = None
        self._verified: set[Path] = set()
        """Prepared weights that this process has read in full and found sound."""
        self._core: WarmEngineCore | None = None
        self._preparation: Preparation | None = None
        self._can_sleep = False
        self._core_lock = Lock()
        """Held to take the core away, and by other threads while they use it."""
        self._cancelled = Event()
        self._pack: Pack | None = None
        self._baseline: MemoryReading | None = None
        self._has_cleaned = False

    def import_engine(self) -> None:
        """Import what every load would import, once per process. Any thread may do it."""
        from vllm.platforms import current_platform
        from vllm.plugins import load_general_plugins

        import workbench.engine.core
        import workbench.engine.loading  # noqa: F401
        from workbench.engine.once import ask_once_in_worker

        load_general_plugins()
        ask_once_in_worker()
        if current_platform.is_cpu():
            import vllm.v1.worker.cpu_worker  # noqa: F401

    def warm_up(self) -> None:
        """Open the device, start what a load needs, and take the baseline; after `import_engine`."""
        from workbench.engine import linear
        from workbench.engine.packing import install
        from workbench.engine.prepared.maps import KeptMaps

        if self._device == "cpu":
            linear.warm_up()
        else:
            import torch

            torch.cuda.init()
            torch.zeros(1, device="cuda")  # the context itself is made at the first allocation
        self._pack = install()
        self._maps = KeptMaps(self._store) if self._store is not None else None
        gc.collect()
        gc.freeze()
        trim_heap()
        self._baseline = read_memory(self._device)

    def expect(self) -> None:
        """Forget earlier cancels: the load that comes next is a new one."""
        self._cancelled.clear()

    def load(
        self, config: bytes, input_address: str, output_address: str, report: Callable[[int], None]
    ) -> LoadTimes:
        """Bring a model up; its client may talk to it on the two addresses when this returns.

        Args:
            config: a pickled VllmConfig, from `workbench.engine.config`.
            input_address: zmq address the client's ROUTER socket is bound to.
            output_address: zmq address the client's PULL socket is bound to.
            report: told the bytes of weights loaded so far.

        Raises:
            LoadCancelledError: `cancel` was called meanwhile.
            Exception: whatever vLLM raises for a model that it can't load.
        """
        import torch
        from vllm.v1.engine.utils import EngineZmqAddresses

        from workbench.engine.core import WarmEngineCore
        from workbench.engine.garbage import collections_deferred
        from workbench.engine.groups import keep_groups_for
        from workbench.engine.loading import LoadWatch, current_watch
        from workbench.engine.packing import PackingQueue, current_packing
        from workbench.engine.prepared.preparation import Preparation

        assert self._pack is not None
        began = time.perf_counter()
        vllm_config = pickle.loads(config)
        keep_groups_for(vllm_config)
        preparation = self._preparation = Preparation.of(self._maps, vllm_config, self._verified)
        watch, packing = LoadWatch(report, self._cancelled, preparation), PackingQueue(self._pack)
        # A compiled graph keeps the function that it was traced with: such layers are packed in the load.
        waiting = packing if vllm_config.model_config.enforce_eager else None
        tokens = current_watch.set(watch), current_packing.set(waiting)
        addresses = EngineZmqAddresses(inputs=[input_address], outputs=[output_address])
        try:
            with collections_deferred():
                core = WarmEngineCore(vllm_config, addresses, packing, preparation, self._cancelled)
        finally:
            current_watch.reset(tokens[0])
            current_packing.reset(tokens[1])
        torch.seed()  # vLLM begins with the same numbers at each load: the first story would never change
        mapped = preparation is not None and preparation.mapped
        packing.reversible = mapped
        # What was packed in the load takes memory that can't be given up.
        self._can_sleep = self._device != "cpu" or (mapped and waiting is not None)
        with self._core_lock:
            self._core = core
        if self._cancelled.is_set():
            core.request_stop()
        ended = time.perf_counter()
        weights, kv_cache = watch.marks["weights"], watch.marks["kv_cache"]
        return LoadTimes(weights - began, kv_cache - weights, ended - kv_cache)

    def run(self) -> None:
        """Serve until `cancel`.

        Raises:
            Exception: the engine failed; the process should not be trusted with another model.
        """
        assert self._core is not None
        try:
            self._core.run_busy_loop()
        except SystemExit:  # upstream's way to say that the loop ended in order
            return

    def cancel(self) -> None:
        """Stop the load or the model that runs, from any thread."""
        self._cancelled.set()
        with self._core_lock:
            if self._core is not None:
                self._core.request_stop()

    @property
    def can_sleep(self) -> bool:
        """Whether the model here would give its memory back asleep; on the CPU, if weights stay mapped."""
        return self._can_sleep

    @property
    def step_s(self) -> float:
        """Seconds the engine step under way has taken; 0 when none is."""
        with self._core_lock:
            return self._core.step_s if self._core is not None else 0.0

    def release(self) -> None:
        """Give the model's memory back; `clean` does the slower rest."""
        from workbench.engine.teardown import tear_down

        with self._core_lock:
            core, self._core = self._core, None
        tear_down(core)
        if self._device != "cpu":
            from workbench.engine.sleep_memory import SleepAllocator

            SleepAllocator.get().release()
        trim_heap()

    def clean(self) -> int:
        """Collect what a model left behind, and get ready for the next.

        Returns:
            Bytes held above the warm baseline, by the worse of host and device memory.
        """
        from workbench.engine.teardown import empty_device_cache

        if self._preparation is not None:
            self._preparation.stop()
            self._preparation.join()
            self._preparation = None
        if self._maps is not None:
            self._maps.trim()
        gc.collect()
        empty_device_cache()
        if self._device != "cpu":
            from workbench.engine.sleep_memory import SleepAllocator

            SleepAllocator.get().check_empty()
        trim_heap()
        memory, first, self._has_cleaned = self.memory(), not self._has_cleaned, True
        if self._baseline is None or (first and self._device != "cpu"):
            self._baseline = memory  # a GPU's kernels and workspaces come with its first model, and stay
        return memory.growth_since(self._baseline)

    def memory(self) -> MemoryReading:
        """What the process holds now."""
        return read_memory(self._device)
