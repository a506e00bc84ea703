"""What a worker process holds, by the operating system's and the device driver's own figures."""

import ctypes
import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Bytes one process holds at one moment."""

    private_bytes: int
    """Host memory without mapped files: those are in the page cache, once for all, and can be dropped."""
    device_bytes: int
    """Device memory as the driver reports it; 0 on the CPU."""

    def growth_since(self, earlier: "MemoryReading") -> int:
        """The larger growth of the two, in bytes; negative if both shrank."""
        return max(self.private_bytes - earlier.private_bytes, self.device_bytes - earlier.device_bytes)


def read_memory(device: str) -> MemoryReading:
    """Read this process's memory; `device` is "cpu" or "cuda:NAME", as for CUDA_VISIBLE_DEVICES."""
    memory = psutil.Process().memory_info()
    return MemoryReading(
        memory.rss - memory.shared, _device_bytes(device) if device.startswith("cuda") else 0
    )


def _device_bytes(device: str) -> int:
    """Bytes this process holds on a GPU.

    In a container the driver may know the process by another pid; then torch's reserved bytes stand in.
    """
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        name = device.partition(":")[2]
        find = pynvml.nvmlDeviceGetHandleByIndex if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID
        handle = find(int(name) if name.isdigit() else name)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
    except pynvml.NVMLError:
        pass
    return int(torch.cuda.memory_reserved())


def trim_heap() -> None:
    """Return freed memory to the system; glibc keeps up to a model's size of it otherwise."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
