"""One load's part in the prepared weights: found and mapped, or else written once the model serves."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from torch import Tensor, nn
from vllm.config import ModelConfig, VllmConfig
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from workbench.engine.prepared.fingerprint import Source
from workbench.engine.prepared.maps import KeptMaps
from workbench.engine.prepared.shaping import shaping
from workbench.engine.prepared.store import Entry, PreparedStore

log = logging.getLogger(__name__)

QUIET_S = 0.25
"""An engine that had nothing to do for so long is taken for idle."""
PLAIN_METHODS = frozenset({UnquantizedLinearMethod, UnquantizedEmbeddingMethod})


class Preparation:
    """The prepared weights of the model that is being loaded.

    Made before the load looks at the model's files, so that what it reads can't be newer than what it says.
    """

    def __init__(self, maps: KeptMaps, vllm_config: VllmConfig, verified: set[Path]) -> None:
        """Args:
        maps: of prepared weights, and where those are kept.
        vllm_config: of the engine that loads.
        verified: entries that this process has read in full; added to.
        """
        self._maps = maps
        self._store = maps.store
        self._model_config = vllm_config.model_config
        self._verified = verified
        self._source = Source.look(Path(vllm_config.model_config.model))
        self._shape = shaping(vllm_config)
        self._entry: Entry | None = self._store.find(self._source, self._shape)
        self._parameters: dict[str, Tensor] = {}
        """Of a plain load, as long as they don't lie in a prepared file."""
        self._unprepared: dict[str, Tensor] = {}
        """Their contents."""
        self._in_place: set[int] = set()
        """The ids of those whose contents are maps of the model's own files."""
        self.unwritten_bytes = 0
        """Weights of a plain load that are still to be written, or are being written."""
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._stopping = threading.Lock()

    @classmethod
    def of(cls, maps: KeptMaps | None, vllm_config: VllmConfig, verified: set[Path]) -> "Preparation | None":
        """The preparation of a model whose weights can be kept; None for others.

        Quantized weights come with state of their kernels that is in no tensor.
        """
        if maps is None or not maps.store.limit_bytes or vllm_config.model_config.quantization is not None:
            return None
        try:
            return cls(maps, vllm_config, verified)
        except OSError as error:
            log.info("weights are not prepared: %s", error)
            return None

    def is_for(self, model_config: ModelConfig) -> bool:
        """Whether a load is that of the engine's own model, and not of a draft model beside it."""
        return model_config is self._model_config

    def map_into(self, model: nn.Module) -> bool:
        """Give the model its weights from the prepared file, if there is one that fits.

        On the CPU they stay where they are, in the page cache; to a device they are copied.
        """
        if not is_plain(model):
            return False
        expected = stored_tensors(model)
        tensors = self._maps.map(self._entry, expected) if self._entry else None
        if tensors is None:
            self._entry = None
            return False
        for name, tensor in expected.items():
            if tensor.device.type == "cpu":
                tensor.data = tensors[name]
            else:
                tensor.data.copy_(tensors[name])
        return True

    @property
    def mapped(self) -> bool:
        """Whether the model got its weights from a prepared file, after the load."""
        return self._entry is not None

    def touch(self) -> None:
        """Note that the model is used again: prepared weights of others make room before its own."""
        if self._entry is not None:
            self._store.touch(self._entry)

    def keep(self, model: nn.Module, in_place: Collection[Tensor] = ()) -> None:
        """Remember the weights of a plain load, to be written; before anything processes them further.

        Nothing is remembered of a model whose weights are processed in ways that were not looked at.

        Args:
            model: loaded just now.
            in_place: the parameters that are maps of the model's own files.
        """
        if is_plain(model):
            self._parameters = stored_tensors(model)
            self._unprepared = {name: tensor.data for name, tensor in self._parameters.items()}
            self._in_place = {id(tensor) for tensor in in_place}
            self.unwritten_bytes = sum(tensor.nbytes for tensor in self._unprepared.values())

    @property
    def due(self) -> bool:
        """Whether there is anything to write, or to read in full for the first time in this process."""
        return bool(self._unprepared) or (self._entry is not None and self._entry.path not in self._verified)

    def start(self, idle_since: Callable[[], float | None], on_damaged: Callable[[], None]) -> None:
        """Do what is due in a thread, while the engine is idle; also again, when it was stopped and joined.

        Args:
            idle_since: monotonic time since when the engine has nothing to do; None while it has.
            on_damaged: told that the weights that serve were damaged on the disk, or overwritten there.
        """
        self._stopped.clear()

        def go_on() -> bool:
            while not self._stopped.is_set():
                since = idle_since()
                if since is not None and time.monotonic() - since >= QUIET_S:
                    return True
                self._stopped.wait(QUIET_S / 2)
            return False

        self._thread = threading.Thread(
            target=self._work, args=(go_on, on_damaged), name="prepare", daemon=True
        )
        self._thread.start()

    def _work(self, go_on: Callable[[], bool], on_damaged: Callable[[], None]) -> None:
        if self._entry is None:
            in_place = bool(self._in_place)
            try:
                self._store.prepare(self._source, self._shape, self._unprepared, go_on)
                self._move(go_on)
            finally:
                self._parameters, self._unprepared, self.unwritten_bytes = {}, {}, 0
            if in_place and not self._stopped.is_set() and self._source.was_overwritten():
                on_damaged()
        elif not self._store.verify(self._entry, go_on):
            self._maps.forget(self._entry)
            on_damaged()
        elif not self._stopped.is_set():
            self._verified.add(self._entry.path)

    def _move(self, go_on: Callable[[], bool]) -> None:
        """Have the model serve from the prepared file, or from memory, and no longer from its own files.

        Those belong to the user, who may overwrite them; a model that is never idle serves from them on. The
        contents stay the same, so the engine may be at work meanwhile.
        """
        entry = self._store.find(self._source, self._shape)
        prepared = self._maps.map(entry, self._unprepared) if entry else None
        for name, tensor in self._parameters.items():
            if tensor.device.type != "cpu" or not go_on():
                return
            if prepared is not None:
                contents = prepared[name]
            elif id(tensor) in self._in_place:
                contents = tensor.data.clone()
            else:
                continue
            with self._stopping:
                if self._stopped.is_set():  # layers may have been packed since
                    return
                tensor.data = contents
        if prepared is not None and entry is not None:
            self._entry = entry
            self._verified.add(entry.path)  # when it was written

    def stop(self) -> None:
        """Give up what is not done yet: the model goes, or sleeps."""
        with self._stopping:
            self._stopped.set()

    def join(self) -> None:
        """Wait until nothing reads the weights any more: after `stop`, while the disk takes 64 MB."""
        if self._thread is not None:
            self._thread.join()


def files_of_load(store: PreparedStore, vllm_config: VllmConfig) -> list[Path]:
    """The files that a load of this model would read now: its prepared weights, or its own.

    Raises:
        OSError: the model's folder can't be read.
    """
    source = Source.look(Path(vllm_config.model_config.model))
    entry = store.find(source, shaping(vllm_config))
    return [entry.path] if entry else sorted(source.folder.glob("*.safetensors"))


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
