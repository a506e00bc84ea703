"""vLLM's CPU worker for models that sleep: idle, they give the memory of their KV cache up and keep the rest.

What stays is a built model over mapped weights (`prepared/`), which are page cache: memory that the kernel
may take back, and that all workers share. A wake costs nothing, but page faults as the KV cache fills again.
"""

import ctypes
import mmap

import torch

from workbench.engine.cpu_worker import WarmCPUWorker
from workbench.engine.memory import trim_heap


class SleepingCPUWorker(WarmCPUWorker):
    """Sleeps at vLLM's level 1; upstream's CPU worker only logs that it can't sleep."""

    def sleep(self, level: int = 1) -> None:
        """Give every page of the KV cache back, which is zero then, and what packed weights have left."""
        storages = [layer.untyped_storage() for layer in self.model_runner.kv_caches]  # views of one buffer
        for storage in {storage.data_ptr(): storage for storage in storages}.values():
            _give_back(storage)
        trim_heap()

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Nothing is to be done: pages come when they are touched."""


def _give_back(storage: torch.UntypedStorage) -> None:
    """Drop the whole pages of anonymous memory.

    Raises:
        OSError: the kernel refuses.
    """
    begin = -(-storage.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (storage.data_ptr() + storage.nbytes()) // mmap.PAGESIZE * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    if end > begin and libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), "madvise")
