"""What shapes a model's parameters besides the contents of its files."""

import functools
import hashlib
import json
import platform
from pathlib import Path

import torch
import vllm
from vllm.config import ModelConfig, VllmConfig
from vllm.platforms import current_platform


def shaping(vllm_config: VllmConfig, model_config: ModelConfig | None = None) -> dict[str, str]:
    """The values that decide names, types, shapes and contents of parameters as `load_weights` leaves them.

    The model's configuration goes in as it stands, with whatever overrides were applied to it.

    Args:
        vllm_config: of the engine.
        model_config: of the model, if it isn't the engine's own.
    """
    model = model_config or vllm_config.model_config
    parallel = vllm_config.parallel_config
    multimodal = model.multimodal_config
    return {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "device": _device(),
        "architecture": model.architecture,
        "config": _digest(model.hf_config.to_dict()),
        "dtype": str(model.dtype),
        "quantization": str(model.quantization),
        "lora": str(vllm_config.lora_config is not None),
        "parts": str(multimodal and (multimodal.language_model_only, multimodal.mm_encoder_only)),
        "tensor_parallel": str(parallel.tensor_parallel_size),
        "pipeline_parallel": str(parallel.pipeline_parallel_size),
        "data_parallel": f"{parallel.data_parallel_rank} of {parallel.data_parallel_size}",
        "expert_parallel": str(parallel.enable_expert_parallel),
        "rank": str(parallel.rank),
    }


def _digest(config: dict[str, object]) -> str:
    config.pop("_name_or_path", None)  # the same files elsewhere are the same model
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def _device() -> str:
    """What the device can do; a processor by its instructions."""
    if not current_platform.is_cpu():
        return f"{current_platform.get_device_name()} {current_platform.get_device_capability()}"
    features = ""
    with Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                features = " ".join(sorted(line.partition(":")[2].split()))
                break
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()}"
