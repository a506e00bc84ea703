"""Serving parameters a catalog entry may carry.

Engine arguments come from an allow-list: numbers, switches and names that size and schedule the engine.
None of them can run code, read another path or reach the network.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.catalog.tables import EngineArg, Model
from workbench.errors import BadRequestError

_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w./:-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Range:
    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return type(value) is int and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class _Choice:
    values: tuple[EngineArg, ...]

    def __contains__(self, value: object) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.values)

    def __str__(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values)


@dataclass(frozen=True, slots=True)
class _Name:
    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and re.fullmatch(r"[a-z0-9_-]{1,40}", value) is not None

    def __str__(self) -> str:
        return "a name of lower-case letters, digits, _ and -"


_Allowed = _Range | _Choice | _Name
_SWITCH = _Choice((True, False))

ENGINE_ARGS: Mapping[str, _Allowed] = {
    "async_scheduling": _SWITCH,
    "block_size": _Choice((8, 16, 32, 64, 128)),
    "disable_sliding_window": _SWITCH,
    "enable_chunked_prefill": _SWITCH,
    "enable_prefix_caching": _SWITCH,
    "kv_cache_dtype": _Choice(("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")),
    "max_logprobs": _Range(0, 1000),
    "max_num_batched_tokens": _Range(1, 1 << 20),
    "max_num_seqs": _Range(1, 4096),
    "reasoning_parser": _Name(),
    "seed": _Range(0, 2**32 - 1),
    "tool_call_parser": _Name(),
}
"""Allowed engine arguments, by their vLLM name."""

DTYPES = _Choice(("auto", "bfloat16", "float16", "float32"))
QUANTIZATIONS = _Choice(("fp8", "fp8_per_tensor", "fp8_per_block", "int8_per_channel_weight_only", "mxfp8"))
"""Those vLLM applies to unquantized weights while loading; others follow from the files."""


def check_model(model: Model) -> None:
    """Raise BadRequestError unless the name and the serving parameters of an entry can be used."""
    check_name(model.name)
    _check("dtype", model.dtype, DTYPES)
    if model.quantization is not None:
        _check("quantization", model.quantization, QUANTIZATIONS)
    check_context(model.serve_context_length, model, "serve_context_length")
    if model.kv_cache_bytes is not None:
        _check("kv_cache_bytes", model.kv_cache_bytes, _Range(1 << 20, 1 << 44))
    for name, value in model.engine_args.items():
        if name not in ENGINE_ARGS:
            raise BadRequestError(
                f"The engine argument {name} is not allowed: choose from {', '.join(ENGINE_ARGS)}."
            )
        _check(name, value, ENGINE_ARGS[name])


def check_name(name: str) -> None:
    """Raise BadRequestError unless a model may be called so."""
    if not _MODEL_NAME.fullmatch(name):
        raise BadRequestError(
            f'"{name}" is no model name: use up to 96 letters, digits and . _ - / : '
            "and start with a letter or a digit."
        )


def check_context(tokens: int | None, model: Model, name: str = "context_length") -> None:
    """Raise BadRequestError unless a model can be served with a context of so many tokens."""
    if tokens is not None:
        _check(name, tokens, _Range(1, model.context_length or 1 << 30))


def _check(name: str, value: object, allowed: _Allowed) -> None:
    if value not in allowed:
        raise BadRequestError(f"{name} is {value}, and must be {allowed}.")
