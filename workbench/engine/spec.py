"""What the pool must know of a model to run it; free of vLLM, so that any process can build one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.errors import BadRequestError


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and how to serve it.

    Two requests share a load exactly if their specs are equal, so every value that shapes the engine
    is in here.
    """

    name: str
    """Catalog name, unique; what users pick and API clients send."""
    path: str
    """Folder with config.json, tokenizer and safetensors weights."""
    weight_bytes: int
    """Bytes of weights on the device once loaded."""
    kv_cache_bytes: int
    """Bytes given to the KV cache; explicit, so that a load needs no profiling run."""
    context_length: int
    """Longest sequence served, prompt and answer together, in tokens; 0 takes the model's own, cut
    down to what its KV cache holds."""
    revision: str = ""
    """Commit or fingerprint of the files; a change makes this another model."""
    dtype: str = "auto"
    quantization: str | None = None
    eager: bool = True
    """Skip compilation and graph capture: on the CPU a compile costs more than it returns."""
    cuda_graph_sizes: tuple[int, ...] = ()
    """Batch sizes that are captured as CUDA graphs, unless eager."""
    sleeps: bool = False
    """Whether the engine is one that can give its device memory up and stay."""
    engine_args: tuple[tuple[str, str | int | float | bool], ...] = field(default=())
    """Further vLLM engine arguments, checked by the catalog, sorted by name."""

    @property
    def device_bytes(self) -> int:
        """Bytes this model takes of its device's budget: weights and KV cache."""
        return self.weight_bytes + self.kv_cache_bytes


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Sampling parameters of one request; None leaves the model's own default.

    Names and ranges are those of vLLM's `SamplingParams`.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise BadRequestError for a value out of range, before anything is loaded for it."""
        for name, (allowed, holds) in _RANGES.items():
            value = getattr(self, name)
            finite = isinstance(value, int | None) or math.isfinite(value)
            if value is not None and not (finite and holds(value)):
                raise BadRequestError(f"{name} is {value}, but must be {allowed}.")


_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": ("at least 0 and at most 10", lambda value: 0 <= value <= 10),
    "top_p": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "top_k": ("0 for all tokens, or at least 1", lambda value: value >= -1),
    "min_p": ("at least 0 and at most 1", lambda value: 0 <= value <= 1),
    "repetition_penalty": ("more than 0 and at most 10", lambda value: 0 < value <= 10),
    "max_tokens": ("at least 1", lambda value: value >= 1),
    "seed": ("a whole number of 64 bits", lambda value: -(2**63) <= value < 2**63),
}


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """What one or more engine steps added to an answer."""

    text: str
    token_count: int
    """Tokens generated so far, in this whole answer."""
    prompt_tokens: int
    cached_prompt_tokens: int
    finish_reason: str | None
    """None while generating; then "stop", "length" or "abort"."""
