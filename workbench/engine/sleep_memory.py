"""Device memory that an idle model gives up, in a process that outlives its models.

Parts of vLLM's sleep mode (`vllm.device_allocator`) are replaced: where it frees memory, because it counts
on one model in a process's life, and how it copies, because a wake is on the path of a switch. Read
against vLLM 0.32.0's sources; not yet run on a GPU.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from vllm.device_allocator import DEFERRABLE_TAGS, AllocationData, HandleType, cumem
from vllm.device_allocator.cumem import CuMemAllocator
from vllm.device_allocator.sleep_mode_backend import CuMemBackend

from workbench.engine.garbage import collections_deferred
from workbench.engine.pinned import PinnedMemory, pieces

KEPT_TAGS = ("weights", "runtime", "cudagraph")
"""What level 1 keeps; KV cache and workspace hold nothing that is needed again."""
MEMCPY_DEFAULT = 4
"""cudaMemcpyDefault: the driver sees from the addresses which way to copy."""


class SleepAllocator(CuMemAllocator):
    """vLLM's allocator of memory that can be given up, whose process goes on with other models."""

    def __init__(self) -> None:
        super().__init__()
        self._wrappers: list[Any] = []
        """Allocators of pools that were released; torch calls them as long as one block of theirs lives."""

    @classmethod
    def get(cls) -> "SleepAllocator":
        """The process's one allocator; vLLM finds it too."""
        if CuMemAllocator.instance is None:
            CuMemAllocator.instance = cls()
        assert isinstance(CuMemAllocator.instance, cls)
        return CuMemAllocator.instance

    def _python_free_callback(self, ptr: int) -> HandleType:
        """Map memory that is freed while it sleeps, for a moment.

        The C code unmaps what is freed. A second time is an error that it keeps, and it then refuses every
        later allocation (csrc/cumem_allocator.cpp: `error_code`).
        """
        data = self.pointer_to_data[ptr]
        if data.is_asleep:
            cumem.create_and_map(data.handle)
            data.is_asleep = False
        return super()._python_free_callback(ptr)

    def release_pools(self) -> None:
        """Nothing yet: vLLM's worker calls this as it shuts down, while its weights still live."""

    def release(self) -> None:
        """Free the pools of a model whose tensors are gone."""
        entries = [entry for pools in self.allocator_and_pools.values() for entry in pools]
        self.allocator_and_pools.clear()
        self._wrappers += [wrapper for _, wrapper in entries]  # outlive the pools, which call them

    def check_empty(self) -> None:
        """Raise RuntimeError if some memory was not freed: vLLM would refuse the next model."""
        if left_bytes := self.get_current_usage():
            raise RuntimeError(f"{left_bytes} bytes of device memory were not given back")
        self._wrappers.clear()


class PinnedBackend(CuMemBackend):
    """vLLM's sleep-mode backend, with the weights in host memory that was pinned before and is kept."""

    def __init__(self) -> None:
        super().__init__()
        self._host: PinnedMemory | None = None

    def pin_piece(self) -> int:
        """Pin a further piece of the host memory that level 1 needs; returns the bytes that are left."""
        return self._host_memory().pin_piece()

    def suspend(self, level: int = 1) -> None:
        """Give the device memory up; the device must be idle."""
        with collections_deferred():
            if level == 1:
                self._copy_to_host()
            super().suspend(level)  # unmaps what is left, and keeps copies of what it must by its own means

    def resume(self, tags: list[str] | None = None) -> None:
        """Map the device memory again, and copy back what was kept."""
        with collections_deferred():
            copied = self._copy_back(tags)
            super().resume(tags)  # maps KV cache and workspace while the last copies run
            torch.cuda.synchronize()
            for data in copied:
                data.cpu_backup_tensor = None

    def close(self) -> None:
        """Unpin the host memory; the model goes."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def _host_memory(self) -> PinnedMemory:
        if self._host is None:
            size = sum(data.handle[1] for _, data in _kept())
            self._host = PinnedMemory(size, cumem.libcudart)
        return self._host

    def _copy_to_host(self) -> None:
        host, offset = self._host_memory(), 0
        copied: list[AllocationData] = []
        for address, data in _kept():
            size = data.handle[1]
            if data.is_asleep or offset + size > host.size:  # allocated since: vLLM keeps it by its own means
                continue
            data.cpu_backup_tensor = host.tensor[offset : offset + size]
            _begin_copy(host.address + offset, address, size, offset)
            copied.append(data)
            offset += size
        torch.cuda.synchronize()
        for data in copied:
            cumem.unmap_and_release(data.handle)
            data.is_asleep = True

    def _copy_back(self, tags: Sequence[str] | None) -> list[AllocationData]:
        """Begin to copy back what was kept; one allocation is mapped while the one before is copied."""
        copied: list[AllocationData] = []
        for address, data in SleepAllocator.get().pointer_to_data.items():
            backup = data.cpu_backup_tensor
            deferred = tags is not None and data.tag in DEFERRABLE_TAGS and data.tag not in tags
            if backup is None or not data.is_asleep or deferred:
                continue
            cumem.create_and_map(data.handle)
            data.is_asleep = False
            offset = backup.data_ptr() - self._host.address if self._host is not None else 0
            _begin_copy(address, backup.data_ptr(), data.handle[1], offset)
            copied.append(data)
        return copied


def _kept() -> list[tuple[int, AllocationData]]:
    """Device address and record of each allocation that level 1 keeps."""
    return [
        (address, data)
        for address, data in SleepAllocator.get().pointer_to_data.items()
        if data.tag in KEPT_TAGS
    ]


def _begin_copy(target: int, source: int, size: int, host_offset: int) -> None:
    """Begin to copy `size` bytes; the host's side of it is at `host_offset` of its PinnedMemory."""
    copy = cumem.libcudart.lib.cudaMemcpyAsync
    for start, length in pieces(host_offset, size):
        code = copy(
            ctypes.c_void_p(target + start),
            ctypes.c_void_p(source + start),
            ctypes.c_size_t(length),
            ctypes.c_int(MEMCPY_DEFAULT),
            ctypes.c_void_p(0),
        )
        cumem.libcudart.CUDART_CHECK(code)
