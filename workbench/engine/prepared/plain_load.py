"""Weights as a plain load leaves them: in memory of the worker's own, or where they lie in the model's files.

Those files are the user's, who may overwrite them. So nothing stays there for longer than it must: as soon
as the engine was idle for long enough, the model uses the prepared file, or where there can be none, copies;
until then the files are watched.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from workbench.engine.chunks import check
from workbench.engine.prepared.fingerprint import Source

log = logging.getLogger(__name__)

WATCH_S = 2.0
"""Between two looks at files that serve and are the user's."""
PLAIN_METHODS = frozenset({UnquantizedLinearMethod, UnquantizedEmbeddingMethod})


@dataclass(frozen=True, slots=True)
class PlainLoad:
    """Weights that were loaded from the model's own files."""

    parameters: Mapping[str, Tensor]
    contents: Mapping[str, Tensor]
    """As the load left them, before anything processed them further."""
    in_place: Sequence[str]
    """Those that are maps of the files."""

    @classmethod
    def of(cls, model: nn.Module, in_place: Collection[Tensor]) -> Self:
        """The weights of a model that was loaded just now, of which some are in place."""
        parameters, ids = stored_tensors(model), set(map(id, in_place))
        return cls(
            parameters,
            {name: tensor.data for name, tensor in parameters.items()},
            [name for name, tensor in parameters.items() if id(tensor) in ids],
        )

    @property
    def nbytes(self) -> int:
        """Of all contents."""
        return sum(tensor.nbytes for tensor in self.contents.values())

    def copies(self, go_on: Callable[[], bool]) -> dict[str, Tensor]:
        """Contents that are in place, in memory of the worker's own.

        Raises:
            StoppedError: `go_on` said no.
        """
        copies = {}
        for name in self.in_place:
            check(go_on)
            copies[name] = self.contents[name].clone()
        return copies

    def use(self, contents: Mapping[str, Tensor]) -> None:
        """Have parameters use equal contents that are elsewhere, but for those that were processed since."""
        for name, tensor in contents.items():
            if _placement(self.parameters[name]) == _placement(self.contents[name]):
                self.parameters[name].data = tensor


def _placement(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def watch(source: Source, stopped: threading.Event, on_damaged: Callable[[], None]) -> None:
    """See that nobody overwrites a model's own files, as long as they are mapped; until `stopped`.

    Args:
        source: the files, as they were before the load.
        stopped: when to stop looking.
        on_damaged: told when one was overwritten.
    """
    while source.is_mapped():
        if source.was_overwritten():
            log.error("%s was overwritten while it served", source.folder)
            on_damaged()
            return
        if stopped.wait(WATCH_S):
            return


def is_plain(model: nn.Module) -> bool:
    """Whether all weights are in the model's folder, and none is changed in place after a load.

    vLLM's methods for layers that are not quantized repack weights, if at all, into new memory.
    """
    methods = {type(method) for part in model.modules() if (method := getattr(part, "quant_method", None))}
    return (
        methods <= PLAIN_METHODS
        and not getattr(model, "secondary_weights", ())
        and not hasattr(model, "process_weights_after_loading")
    )


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a model by name; of tied ones the first name only."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor
    return found
