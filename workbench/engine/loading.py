"""The loader workers use: prepared weights where there are any, else vLLM's own loader, observed.

On the CPU, what that loader would copy is used where it lies, if it can be (`in_place.py`).
"""

import time
from collections.abc import Callable, Generator, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import nn
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import DefaultModelLoader, register_model_loader
from vllm.platforms import current_platform

from workbench.engine.chunks import CHUNK_BYTES
from workbench.engine.config import fast_load_format
from workbench.engine.in_place import CopiesPutOff
from workbench.engine.page_cache import prefetch, resident_bytes
from workbench.engine.prepared.plain_load import stored_tensors
from workbench.engine.prepared.preparation import Preparation

LOAD_FORMAT = "workbench"
MUCH_BYTES = 32 << 20
"""More than a disk reads in a moment."""


class LoadCancelledError(Exception):
    """The app gave up a load that was under way."""


@dataclass
class LoadWatch:
    """What the load that runs in this thread reports to, and is stopped by."""

    report: Callable[[int], None]
    """Told the bytes of weights loaded so far."""
    cancelled: Event
    preparation: Preparation | None
    """None for a model whose weights aren't prepared."""
    marks: dict[str, float] = field(default_factory=dict)
    """Monotonic times of "weights" (first byte wanted) and "kv_cache" (weights in place)."""

    def mark(self, name: str) -> None:
        self.marks[name] = time.perf_counter()

    def check(self) -> None:
        """Raise LoadCancelledError once the app has cancelled."""
        if self.cancelled.is_set():
            raise LoadCancelledError


# vLLM builds the loader itself, from a config that must stay picklable, so it finds its watch here.
current_watch: ContextVar[LoadWatch] = ContextVar("current_watch")


@register_model_loader(LOAD_FORMAT)
class WatchedLoader(DefaultModelLoader):
    """`DefaultModelLoader` that maps prepared weights, or reports bytes and looks for a cancel."""

    def __init__(self, load_config: LoadConfig) -> None:
        load_config.load_format = "auto" if current_platform.is_cpu() else fast_load_format()
        load_config.use_tqdm_on_load = False
        super().__init__(load_config)
        self._copies: CopiesPutOff | None = None

    def load_model(self, *args: Any, **kwargs: Any) -> nn.Module:
        watch = current_watch.get()
        watch.check()
        watch.mark("weights")
        model = super().load_model(*args, **kwargs)
        watch.check()
        watch.mark("kv_cache")
        return model

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        preparation = current_watch.get().preparation
        if preparation is not None and not preparation.is_for(model_config):
            preparation = None
        if preparation is not None and preparation.map_into(model):
            return
        in_place: list[torch.Tensor] = []
        if preparation is not None and preparation.allows_in_place(model):
            _read_ahead(preparation.source.weights, current_watch.get())
            with CopiesPutOff() as self._copies:
                super().load_weights(model, model_config)
            in_place = self._copies.settle(stored_tensors(model).values())
            self._copies = None
        else:
            super().load_weights(model, model_config)
        if preparation is not None:
            preparation.keep(model, in_place)

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        watch = current_watch.get()
        done_bytes = 0
        for name, tensor in super().get_all_weights(model_config, model):
            watch.check()
            if self._copies is not None:
                self._copies.add(tensor)
                yield name, tensor
            else:
                yield name, tensor
                done_bytes += tensor.nbytes
                watch.report(done_bytes)


def _read_ahead(files: Iterable[Path], watch: LoadWatch) -> None:
    """Have the page cache hold files that it lacks much of.

    What is used where it lies would else be read in the first step, where nobody sees it, or gives it up.

    Raises:
        LoadCancelledError: the app has cancelled.
    """
    done_bytes = 0

    def go_on() -> bool:
        nonlocal done_bytes
        watch.check()
        watch.report(done_bytes)
        done_bytes += CHUNK_BYTES
        return True

    for path in files:
        if path.stat().st_size - resident_bytes(path) > MUCH_BYTES:
            prefetch(path, go_on)
