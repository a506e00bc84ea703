"""What vLLM works out anew at each load, although its answer never changes in a process: asked once here."""

import functools
from types import ModuleType

from torch import nn
from vllm.config import get_current_vllm_config
from vllm.model_executor.model_loader import utils
from vllm.platforms import current_platform
from vllm.utils import cpu_resource_utils
from vllm.v1.engine import async_llm
from vllm.v1.sample import logits_processor


def ask_once_in_app() -> None:
    """Search the installed distributions for plugins that log statistics at the first client only."""
    _remember(async_llm, "load_stat_logger_plugin_factories")


def ask_once_in_worker() -> None:
    """Make each question that a load asks free after its first time.

    The CPU platform's kernel fallbacks are imported and registered for each worker object (0.25 s of every
    load), the processor's topology is read by starting `lscpu` (15 ms), and every installed distribution
    is searched for sampling plugins (25 ms).
    """
    current_platform.register_triton_kernel_overrides()
    platform = type(current_platform)
    platform.register_triton_kernel_overrides = classmethod(lambda cls: None)
    if current_platform.is_cpu():
        _skip_records_for_reloading()
    _remember(cpu_resource_utils, "_get_cpu_list")
    _remember(logits_processor, "_load_logitsprocs_plugins")


def _skip_records_for_reloading() -> None:
    """Take no copy of every layer's metadata, which serves to give a running model other weights.

    A fifth of what it takes to build a large model. On the CPU that is done to no model, and the metadata
    is needed besides only for weights that are quantized while they are read.
    """
    record = utils.record_metadata_for_reloading

    def record_if_quantized(model: nn.Module) -> None:
        if get_current_vllm_config().model_config.quantization is not None:
            record(model)

    utils.record_metadata_for_reloading = record_if_quantized


def _remember(module: ModuleType, function: str) -> None:
    setattr(module, function, functools.cache(getattr(module, function)))
