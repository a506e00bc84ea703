"""Taking an engine core apart so that its memory comes back at once.

vLLM's own `EngineCore.shutdown` leaves the freeing to several full garbage collections, 1.3 s in a warm
process with its large heap. Here reference cycles are broken by hand, so that weights and KV cache are
freed by reference counting, and the collection that is still due is left to `EngineHost.clean`.
"""

import gc

import torch

from workbench.engine.core import WarmEngineCore
from workbench.engine.garbage import collections_deferred


def tear_down(core: WarmEngineCore | None) -> None:
    """Free what `core` holds.

    None stands for a load that failed: what it built is held by cycles alone, so it is collected here.
    """
    if core is None:
        gc.collect()
        empty_device_cache()
        return
    with collections_deferred():
        core.close_sockets()
        worker = core.model_executor.driver_worker.worker
        runner = worker.model_runner
        modules = list(runner.model.modules())
        core.shutdown()
        for owner in (*modules, runner, worker, core.scheduler, core.model_executor, core):
            vars(owner).clear()
    del modules, owner, runner, worker
    empty_device_cache()


def empty_device_cache() -> None:
    """Return freed device memory to the driver; torch keeps it otherwise, and other workers lack it."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
