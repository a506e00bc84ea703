"""Host memory of a KV cache: pages that cost nothing until a request fills them."""

import mmap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

MIN_BYTES = 1 << 20


class UntouchedZeros(TorchFunctionMode):
    """Makes large zeroed host tensors of bytes, such as vLLM's one buffer for the KV cache, from fresh pages.

    `torch.zeros` writes every page, 0.25 s for each GiB, most of which no request may ever use. The kernel
    hands out the same zeroes page by page, when they are first touched.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.zeros and len(args) == 1 and _is_host_bytes(args[0], kwargs):
            return _untouched(args[0])
        return func(*args, **kwargs)


def _is_host_bytes(size: Any, kwargs: Mapping[str, Any]) -> bool:
    return (
        isinstance(size, int)
        and size >= MIN_BYTES
        and kwargs.keys() == {"dtype", "device"}
        and kwargs["dtype"] is torch.int8
        and torch.device(kwargs["device"]).type == "cpu"
    )


def _untouched(size: int) -> torch.Tensor:
    """`size` zero bytes; the map goes when the last tensor over it does."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.int8)
