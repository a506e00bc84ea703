"""Host memory for a model's weights while it sleeps, pinned so that a GPU copies at full speed.

Pinning is slow, some GiB a second, and holds up the driver. So it is done piece by piece while the model is
idle, before it first has to sleep, and the memory is kept for the next time. vLLM's own way is to pin at
each allocation of each sleep, rounded up to a power of two.
"""

import contextlib
import mmap
from collections.abc import Iterator
from typing import Protocol

import torch

PIECE_BYTES = 256 << 20


class Driver(Protocol):
    """What is used of `vllm.distributed.device_communicators.cuda_wrapper.CudaRTLibrary`."""

    def cudaHostRegister(self, ptr: int, size: int) -> int: ...  # noqa: N802

    def cudaHostUnregister(self, ptr: int) -> int: ...  # noqa: N802

    def cudaGetLastError(self) -> int: ...  # noqa: N802


class PinnedMemory:
    """`size` bytes of host memory, none of them pinned at first. For one thread.

    Memory that is not pinned can be copied from and to as well, only slower.
    """

    def __init__(self, size: int, driver: Driver) -> None:
        self.size = size
        pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
        self.tensor = torch.frombuffer(pages, dtype=torch.uint8)
        """All of it, shape (size,); the pages are freed with the last tensor over them."""
        self._driver = driver
        self._pinned_bytes = 0

    @property
    def address(self) -> int:
        return self.tensor.data_ptr()

    def pin_piece(self) -> int:
        """Pin the next piece; returns the bytes that are left.

        Raises:
            RuntimeError: the driver or the system does not allow it.
        """
        start = self._pinned_bytes
        if start < self.size:
            length = min(PIECE_BYTES, self.size - start)
            if code := self._driver.cudaHostRegister(self.address + start, length):
                self._driver.cudaGetLastError()  # else the next call of this thread fails for it
                raise RuntimeError(f"{length} bytes can't be pinned (CUDA error {code})")
            self._pinned_bytes += length
        return self.size - self._pinned_bytes

    def close(self) -> None:
        """Unpin everything; due before the pages are freed."""
        for start in range(0, self._pinned_bytes, PIECE_BYTES):
            self._driver.cudaHostUnregister(self.address + start)
        self._pinned_bytes = 0


def pieces(offset: int, size: int) -> Iterator[tuple[int, int]]:
    """Split `size` bytes that begin at `offset` of a PinnedMemory, so that no part spans two pieces of it.

    The driver refuses a copy from or to memory that was not pinned in one go.

    Yields:
        (start, length) in bytes, start counted from `offset`.
    """
    start = 0
    while start < size:
        length = min(size - start, PIECE_BYTES - (offset + start) % PIECE_BYTES)
        yield start, length
        start += length
