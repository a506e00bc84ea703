"""How busy the machine is: processors, memory, worker processes and GPUs, by the system's own figures.

`MachineSampler.sample` reads files of the kernel and asks the GPU's driver, so call it in a thread, and only
while somebody looks. Shares are of one whole, from 0 to 1; sizes are bytes.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU, as its driver sees it. Not yet measured on a GPU."""

    share: float
    """Of the last moments, in which it computed at all."""
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """The machine at one moment."""

    cores: int
    """Processors that this process and its workers may use."""
    free_bytes: int
    """Host memory that programs could still take, page cache included."""
    total_bytes: int
    cores_in_use: Mapping[str, float] = field(default_factory=dict)
    """Worker → processors that it kept busy since the last sample; without those seen for the first time."""
    gpus: Mapping[str, GpuLoad] = field(default_factory=dict)
    """By device id; without those whose driver doesn't answer."""


class MachineSampler:
    """Keeps what it takes to make a difference of two moments. One thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[float, float]] = {}
        """Process → when it was looked at, and the seconds of processor time it had used."""
        self._nvml: Any = None

    def sample(self, pids: Mapping[str, int], devices: Iterable[str]) -> MachineLoad:
        """Look at the machine, at the worker processes in `pids`, and at the GPUs among `devices`."""
        free_bytes, total_bytes = _host_memory()
        return MachineLoad(
            cores=len(os.sched_getaffinity(0)),
            free_bytes=free_bytes,
            total_bytes=total_bytes,
            cores_in_use=self._cores_in_use(pids),
            gpus=self._gpus([device for device in devices if device.startswith("cuda:")]),
        )

    def _cores_in_use(self, pids: Mapping[str, int]) -> dict[str, float]:
        seen, self._seen = self._seen, {}
        found = {}
        for worker, pid in pids.items():
            try:
                times = psutil.Process(pid).cpu_times()
            except psutil.Error:  # it has just ended
                continue
            now, used = time.monotonic(), times.user + times.system
            self._seen[pid] = now, used
            if pid in seen and now > seen[pid][0]:
                found[worker] = max(0.0, (used - seen[pid][1]) / (now - seen[pid][0]))
        return found

    def _gpus(self, devices: list[str]) -> dict[str, GpuLoad]:
        if not devices:
            return {}
        try:
            import pynvml

            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml = pynvml
        except Exception:  # the library is not installed, or no driver answers
            return {}
        found = {}
        for device in devices:
            name = device.removeprefix("cuda:")
            try:
                find = (
                    pynvml.nvmlDeviceGetHandleByIndex if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID
                )
                handle = find(int(name) if name.isdigit() else name)
                busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            except pynvml.NVMLError:
                continue
            found[device] = GpuLoad(busy / 100, int(memory.free), int(memory.total))
        return found


def _host_memory() -> tuple[int, int]:
    """Free and total bytes of the machine, or of the container if that has less."""
    memory = psutil.virtual_memory()
    free, total = int(memory.available), int(memory.total)
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, no limit ("max"), or an older kernel
        return free, total
    reclaimable = int(statistics.get("inactive_file", 0)) + int(statistics.get("active_file", 0))
    return min(free, max(0, limit - used + reclaimable)), min(total, limit)
