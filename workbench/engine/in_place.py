"""Weights that lie in a model's own file as the model wants them: used where they lie, not copied.

vLLM makes a model's parameters, then copies each weight of its files into its place. So a first load asks the
kernel for as much fresh memory as the model is large, which it hands out a page at a time. But the files are
mapped, and the two matrices of a gated MLP, which are half of a model and which vLLM joins, lie side by side
there as a rule, because safetensors sorts by name. So copies are put off, and a parameter that they would
make just what lies in the file in one piece is given that piece instead.
"""

import ctypes
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LEAST_BYTES = 64 << 10
"""Of a weight that is worth it."""


class _Copy(NamedTuple):
    into: Tensor
    out_of: Tensor


class CopiesPutOff(TorchDispatchMode):
    """Within, copies out of mapped weights wait until `settle`, or until something else needs to see them.

    It sees what the thread that entered it does, outside of `torch.inference_mode`, where operators that read
    may count as views.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mapped: dict[int, Tensor] = {}
        """Weights by their memory's address, kept so that no other memory gets it."""
        self._waiting: dict[int, list[_Copy]] = {}
        """By the address of the memory that they go into."""
        self._readers: dict[int, set[int]] = {}
        """By the address of the memory that copies come out of: where they go."""

    def add(self, weight: Tensor) -> None:
        """Let copies out of `weight` wait."""
        if weight.nbytes >= LEAST_BYTES:
            self._mapped[_memory(weight)] = weight

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.copy_.default and self._may_wait(args[0], args[1]):
            self._put_off(_Copy(args[0].data, args[1]))  # `data`: a view keeps what it is a view of
            return args[0]
        if not func.is_view:  # it reads or writes
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and value.numel():  # padding is mostly none
                    self._catch_up(_memory(value))
        return func(*args, **(kwargs or {}))

    def _may_wait(self, into: Tensor, out_of: Tensor) -> bool:
        return (
            _memory(out_of) in self._mapped
            and _memory(into) not in self._mapped
            and out_of.nbytes >= LEAST_BYTES
            and (into.device, into.dtype, into.shape) == (out_of.device, out_of.dtype, out_of.shape)
            and into.is_contiguous()
            and out_of.is_contiguous()
        )

    def _put_off(self, copy: _Copy) -> None:
        self._waiting.setdefault(_memory(copy.into), []).append(copy)
        self._readers.setdefault(_memory(copy.out_of), set()).add(_memory(copy.into))

    def _catch_up(self, memory: int) -> None:
        """Carry out what waits to go into this memory, or to come out of it."""
        for into in (memory, *self._readers.pop(memory, ())):
            for copy in self._waiting.pop(into, ()):
                copy.into.copy_(copy.out_of)

    def settle(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Give all parameters their weights; after the load, outside.

        Args:
            parameters: of the model, each once.

        Returns:
            Those that are now where the file is mapped: nobody may write into them.
        """
        in_place = []
        for parameter in parameters:
            memory = _memory(parameter)
            piece = self._in_one_piece(parameter, self._waiting.get(memory, []))
            if piece is not None:
                del self._waiting[memory]
                parameter.data = piece
                in_place.append(parameter)
        while self._waiting:
            self._catch_up(next(iter(self._waiting)))
        self._mapped.clear()
        return in_place

    def _in_one_piece(self, parameter: Tensor, copies: list[_Copy]) -> Tensor | None:
        """What the copies would make of a parameter, if that lies somewhere in one piece; else None."""
        if not copies or not parameter.is_contiguous() or parameter.dtype != copies[0].into.dtype:
            return None
        if users_of(parameter) != 1 + len(copies):  # the views that are copied into; nobody else's
            return None
        copies = sorted(copies, key=lambda copy: copy.into.data_ptr())
        into, out_of = parameter.data_ptr(), copies[0].out_of.data_ptr()
        if out_of % parameter.itemsize:
            return None
        for copy in copies:
            # What goes to two places must not be one memory.
            if len(self._readers[_memory(copy.out_of)]) > 1:
                return None
            if (copy.into.data_ptr(), copy.out_of.data_ptr()) != (into, out_of):
                return None
            into += copy.into.nbytes
            out_of += copy.into.nbytes
        if into != parameter.data_ptr() + parameter.nbytes:
            return None
        if len(copies) == 1:
            return copies[0].out_of.view(parameter.shape)
        span = (ctypes.c_byte * parameter.nbytes).from_address(copies[0].out_of.data_ptr())
        span.owners = [copy.out_of for copy in copies]  # whose memory it is, which lives as long
        return torch.frombuffer(span, dtype=parameter.dtype).view(parameter.shape)


def users_of(tensor: Tensor) -> int:
    """How many tensors share this one's memory, itself included."""
    storage = tensor.untyped_storage()
    return int(torch._C._storage_Use_Count(storage._cdata)) - 1  # `storage` itself


def _memory(tensor: Tensor) -> int:
    """The address of the memory that a tensor is a view of; 0 if there is none."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0
