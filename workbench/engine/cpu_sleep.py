"""vLLM's CPU worker for models that sleep: idle, they give the memory of their KV cache up and keep the rest.

What stays is a built model over mapped weights (`prepared/`), which are page cache: memory that the kernel
may take back, and that all workers share; and the blocks of the KV cache that were used last
(`kv_kept.py`). A wake costs nothing, but page faults as the KV cache fills again.
"""

import ctypes
import mmap
from collections.abc import Sequence

from workbench.engine.cpu_worker import WarmCPUWorker
from workbench.engine.kv_kept import gaps
from workbench.engine.memory import trim_heap

LIBC = ctypes.CDLL(None, use_errno=True)


class SleepingCPUWorker(WarmCPUWorker):
    """Sleeps at vLLM's level 1; upstream's CPU worker only logs that it can't sleep."""

    kept_blocks: Sequence[int] = ()
    """Of the KV cache, while the model sleeps."""

    def sleep(self, level: int = 1) -> None:
        """Give all other pages of the KV cache back, zero then, and what packed weights have left."""
        for begin, end in gaps(self.model_runner.kv_caches, self.kept_blocks):
            _give_back(begin, end)
        trim_heap()

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Nothing is to be done: pages come when they are touched."""


def _give_back(begin: int, end: int) -> None:
    """Drop the whole pages of anonymous memory between two addresses.

    Raises:
        OSError: the kernel refuses.
    """
    begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    end = end // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin and LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), "madvise")
