"""From a ModelSpec to the VllmConfig that a worker and a client share."""

import functools
import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

from workbench.engine.parsers import ARGUMENTS as PARSER_ARGUMENTS
from workbench.engine.parsers import parsers_of
from workbench.engine.spec import ModelSpec
from workbench.errors import ModelLoadError

ACTIVATION_BYTES = 1 << 30
"""Allowance for activations, on top of weights and KV cache, when asking for a share of a GPU."""
SCHEDULING = {"scheduling_policy": "priority"}
"""Requests wait in a heap, by the priorities that their leases give; of equal ones the first goes first.

Who waits pushes nobody out. Where the KV cache is full, the last in that order is preempted, as is the last
to come under vLLM's policy "fcfs".
"""
NO_DOMAINS = ("none.invalid",)
"""Where images and such may be fetched from for a request: nowhere. They come inside it, as `data:` URLs."""
CPU_WORKER = "workbench.engine.cpu_worker.WarmCPUWorker"
SLEEPING_WORKER = "workbench.engine.sleep.SleepingWorker"
SLEEPING_CPU_WORKER = "workbench.engine.cpu_sleep.SleepingCPUWorker"
CPU_BLOCK_TOKENS = 32
"""Of a block of the KV cache, for models whose prompts a CPU reads slowly; vLLM's own choice is 128.

Only whole blocks are found again: the next question of a chat waits until up to that many tokens of what was
said before are read once more. Fewer than 32 would have slower kernels, and more blocks make a load longer.
"""
SLOWLY_READ_BYTES = 64 << 20
"""Weights of such models."""
FAST_FORMATS = ("instanttensor", "fastsafetensors")
"""Readers of safetensors files straight to a GPU that vLLM knows, the faster first; none is required."""


@functools.lru_cache(maxsize=64)
def pickled_config(spec: ModelSpec, device_memory_bytes: int) -> bytes:
    """Build the engine configuration of a model, ready to cross to a worker.

    Cached, because a spec names the revision of its files; pickled, because the client and the core
    each change their own copy. Blocks for about 50 ms, seconds for an architecture never seen before.

    Raises:
        ModelLoadError: vLLM refuses the model or its parameters; the message says why.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs

    from workbench.engine.core import WarmExecutor
    from workbench.engine.loading import LOAD_FORMAT

    wanted_bytes = spec.device_bytes + ACTIVATION_BYTES
    further = {name: value for name, value in spec.engine_args if name not in PARSER_ARGUMENTS}
    try:
        _know_architecture(spec)
        args = AsyncEngineArgs(
            model=spec.path,
            served_model_name=[spec.name],
            max_model_len=spec.context_length or -1,
            kv_cache_memory_bytes=spec.kv_cache_bytes,
            gpu_memory_utilization=min(0.95, wanted_bytes / device_memory_bytes),
            dtype=spec.dtype,
            quantization=spec.quantization,
            enforce_eager=spec.eager,
            trust_remote_code=False,
            load_format=LOAD_FORMAT,
            distributed_executor_backend=WarmExecutor,
            reasoning_parser=parsers_of(spec).reasoning,
            allowed_media_domains=list(NO_DOMAINS),
            **SCHEDULING | _platform_arguments(spec) | further,
        )
        return pickle.dumps(args.create_engine_config())
    except Exception as error:
        raise ModelLoadError(f"{spec.name} can't be configured: {first_line(error)}") from error


def _platform_arguments(spec: ModelSpec) -> dict[str, Any]:
    """Sleep, small KV blocks on the CPU, and few CUDA graphs: vLLM would capture some fifty at every load."""
    from vllm.platforms import current_platform

    arguments: dict[str, Any] = {}
    if current_platform.is_cpu():
        if spec.weight_bytes >= SLOWLY_READ_BYTES:
            arguments["block_size"] = CPU_BLOCK_TOKENS
        arguments["worker_cls"] = SLEEPING_CPU_WORKER if spec.sleeps else CPU_WORKER
    elif spec.sleeps:
        arguments |= {"enable_sleep_mode": True, "worker_cls": SLEEPING_WORKER}
    if spec.cuda_graph_sizes and not spec.eager:
        arguments["cudagraph_capture_sizes"] = list(spec.cuda_graph_sizes)
    return arguments


def fast_load_format() -> str:
    """How a GPU's worker should read weights: the fastest way that is installed, "auto" for vLLM's own."""
    return next((name for name in FAST_FORMATS if importlib.util.find_spec(name)), "auto")


def _know_architecture(spec: ModelSpec) -> None:
    """Import the model's class here; vLLM would start a process to inspect it: 8 s, once an architecture.

    It does so to keep CUDA out of the app, which is why this is for the CPU only.
    """
    from vllm import ModelRegistry
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    config = json.loads(Path(spec.path, "config.json").read_text())
    for architecture in config.get("architectures") or ():
        registered = ModelRegistry.models.get(architecture)
        if registered is not None and hasattr(registered, "module_name"):  # not imported yet
            ModelRegistry.register_model(architecture, registered.load_model_cls())


def first_line(error: BaseException) -> str:
    """The part of an error's text that says what is wrong, without its type or a trace."""
    text = str(error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines[0].endswith(":") or "validation error" in lines[0]:  # pydantic puts the reason further down
        lines = lines[1:] or lines
    return lines[0]


def supported_architectures() -> frozenset[str]:
    """Architecture names this vLLM can run."""
    from vllm import ModelRegistry

    return frozenset(ModelRegistry.get_supported_archs())


def generates(config: bytes) -> bool:
    """Whether the model of an engine configuration generates text; else it embeds, classifies or scores."""
    return bool(pickle.loads(config).model_config.runner_type == "generate")
