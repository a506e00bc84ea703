"""The worker's side of the engine: warm up once, then load, run and unload one model after another."""

import gc
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import TYPE_CHECKING

from workbench.engine.memory import MemoryReading, read_memory, trim_heap

if TYPE_CHECKING:
    from workbench.engine.core import WarmEngineCore


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

    def __init__(self, device: str) -> None:
        self._device = device
        self._core: WarmEngineCore | None = None
        self._core_lock = Lock()
        """Held to take the core away, and by other threads while they use it."""
        self._cancelled = Event()
        self._baseline: MemoryReading | None = None
        self._has_cleaned = False

    def warm_up(self) -> None:
        """Import what every load would import and open the device, once per process."""
        from vllm.platforms import current_platform
        from vllm.plugins import load_general_plugins

        import workbench.engine.core
        import workbench.engine.loading  # noqa: F401

        load_general_plugins()
        if current_platform.is_cpu():
            pass
        else:
            import torch

            torch.cuda.init()
            torch.zeros(1, device="cuda")  # the context itself is made at the first allocation
        _register_kernels_once()
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
        from vllm.v1.engine.utils import EngineZmqAddresses

        from workbench.engine.core import WarmEngineCore
        from workbench.engine.loading import LoadWatch, current_watch

        gc.freeze()  # vLLM collects several times in a load; the warm heap is large
        watch = LoadWatch(report, self._cancelled)
        token = current_watch.set(watch)
        began = time.perf_counter()
        try:
            addresses = EngineZmqAddresses(inputs=[input_address], outputs=[output_address])
            core = WarmEngineCore(pickle.loads(config), addresses)
        finally:
            current_watch.reset(token)
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
        trim_heap()

    def clean(self) -> int:
        """Collect what a model left behind, and get ready for the next.

        Returns:
            Bytes held above the warm baseline, by the worse of host and device memory.
        """
        from workbench.engine.teardown import empty_device_cache

        gc.unfreeze()
        gc.collect()
        gc.freeze()
        empty_device_cache()
        trim_heap()
        memory, first, self._has_cleaned = self.memory(), not self._has_cleaned, True
        if self._baseline is None or (first and self._device != "cpu"):
            self._baseline = memory  # a GPU's kernels and workspaces come with its first model, and stay
        return memory.growth_since(self._baseline)

    def memory(self) -> MemoryReading:
        """What the process holds now."""
        return read_memory(self._device)


def _register_kernels_once() -> None:
    """Register the platform's kernel fallbacks now, and make vLLM's call at each load free.

    The CPU platform imports and registers them anew for each worker object: 0.25 s of every load.
    """
    from vllm.platforms import current_platform

    current_platform.register_triton_kernel_overrides()
    platform = type(current_platform)
    platform.register_triton_kernel_overrides = classmethod(lambda cls: None)
