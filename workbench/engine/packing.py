"""Serve first, pack later: linear layers on the CPU answer before oneDNN has repacked their weights.

The repack is most of a large model's load. So a load leaves it out, each layer answers through torch's own
`linear` on the weights as they are, mapped from a file or not, and the engine core packs layer after layer
between its steps. The two products may round differently in the last bit.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import nn
from vllm.model_executor.layers import utils as layer_utils

from workbench.engine.linear import is_widened, unpacked_linear

Pack = Callable[[nn.Module, bool], None]


@dataclass
class PackingQueue:
    """The layers of one model that are still to be packed."""

    _pack: Pack
    _pending: deque[tuple[nn.Module, bool]] = field(default_factory=deque)
    _packed: list[tuple[nn.Module, bool, nn.Parameter, torch.Tensor | None]] = field(default_factory=list)
    """With weights and biases as they were before."""
    reversible: bool = False
    """Whether weights stay as they are beside packed ones: they are mapped, so they take no memory."""
    put_off: int = 0
    """Layers that were ever in here."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, layer: nn.Module, remove_weight: bool) -> None:
        """Let `layer` answer at once, and pack it later; arguments as vLLM's dispatch has them."""
        layer.cpu_linear = unpacked_linear
        self._pending.append((layer, remove_weight))
        self.put_off += 1

    def pack_one(self) -> None:
        """Pack the next layer: some milliseconds, for a large layer some tens of them."""
        layer, remove_weight = self._pending.popleft()
        if self.reversible:
            bias = layer.bias.data if getattr(layer, "bias", None) is not None else None
            self._packed.append((layer, remove_weight, layer.weight, bias))
        self._pack(layer, remove_weight)

    def unpack(self) -> None:
        """Give packed weights up for those before, where those are still there: the model falls asleep."""
        packed, self._packed = self._packed, []
        for layer, remove_weight, weight, bias in packed:
            layer.weight = weight
            if bias is not None:
                layer.bias.data = bias  # which some of vLLM's packings widen
            layer.cpu_linear = unpacked_linear
            self._pending.append((layer, remove_weight))

    def pack_for(self, seconds: float) -> None:
        """Pack layers until `seconds` are over or none is left; one at least."""
        until = time.perf_counter() + seconds
        while self._pending:
            self.pack_one()
            if time.perf_counter() >= until:
                return

    def clear(self) -> None:
        """Forget what is left: the model goes."""
        self._pending.clear()
        self._packed.clear()


# vLLM calls its dispatch from deep inside a load, so the load's queue is found here.
current_packing: ContextVar[PackingQueue | None] = ContextVar("current_packing", default=None)


def install() -> Pack:
    """Replace vLLM's choice of a matrix product at load time by one that puts it off; once per process.

    Layers import `dispatch_cpu_unquantized_gemm` when they call it, so replacing the module's name is
    enough. What is not a plain matrix goes to vLLM's own function at once. What oneDNN can't take here is
    never packed: vLLM would fall back to a product that `unpacked_linear` beats.

    Returns:
        That function, which does the packing.
    """
    pack: Pack = layer_utils.dispatch_cpu_unquantized_gemm

    def dispatch(layer: nn.Module, remove_weight: bool) -> None:
        queue = current_packing.get()
        if queue is None or layer.weight.is_meta or layer.weight.ndim != 2:
            pack(layer, remove_weight)
        elif is_widened(layer.weight.dtype):
            layer.cpu_linear = unpacked_linear
        else:
            queue.add(layer, remove_weight)

    layer_utils.dispatch_cpu_unquantized_gemm = dispatch
    return pack
