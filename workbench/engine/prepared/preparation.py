"""One load's part in the prepared weights: found and mapped, or else written once the model serves."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from vllm.config import ModelConfig, VllmConfig
from vllm.platforms import current_platform

from workbench.engine.chunks import StoppedError
from workbench.engine.in_place import users_of
from workbench.engine.prepared.fingerprint import Source
from workbench.engine.prepared.maps import KeptMaps
from workbench.engine.prepared.plain_load import PlainLoad, is_plain, stored_tensors, watch
from workbench.engine.prepared.shaping import shaping
from workbench.engine.prepared.store import Entry, PreparedStore

log = logging.getLogger(__name__)

QUIET_S = 0.25
"""An engine that had nothing to do for so long is taken for idle."""


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
        self.mapped = False
        """Whether the load took its weights from a prepared file."""
        self._plain: PlainLoad | None = None
        self._elsewhere: tuple[Entry | None, Mapping[str, Tensor]] | None = None
        """Contents of `_plain` that are ready to be used, and the entry that they are of, if any."""
        self._threads: list[threading.Thread] = []
        self._given_up = threading.Event()
        self._stopped = threading.Event()

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
            # A convolution's weights have a second view, which must see them too.
            if tensor.device.type == "cpu" and users_of(tensor) == 1:
                tensor.data = tensors[name]
            else:
                tensor.data.copy_(tensors[name])
        self.mapped = True
        return True

    def allows_in_place(self, model: nn.Module) -> bool:
        """Whether a plain load may use weights where they lie in the model's own files."""
        return current_platform.is_cpu() and not torch.is_inference_mode_enabled() and is_plain(model)

    @property
    def source(self) -> Source:
        """The model's own files, as they were before the load."""
        return self._source

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
            self._plain = PlainLoad.of(model, in_place)

    @property
    def unwritten_bytes(self) -> int:
        """Weights of a plain load that are still to be prepared, and used from where they are then."""
        return self._plain.nbytes if self._plain else 0

    @property
    def due(self) -> bool:
        """Whether there is anything to write, or to read in full for the first time in this process."""
        return self._plain is not None or (self._entry is not None and self._entry.path not in self._verified)

    def start(
        self,
        idle_since: Callable[[], float | None],
        on_prepared: Callable[[], None],
        on_damaged: Callable[[], None],
    ) -> None:
        """Do what is due in a thread, while the engine is idle; also again, when it was stopped and joined.

        Args:
            idle_since: monotonic time since when the engine has nothing to do; None while it has.
            on_prepared: told that the engine is to call `take`.
            on_damaged: told that the weights that serve were damaged on the disk, or overwritten there.
        """
        self._given_up.clear()
        self._stopped.clear()

        def go_on() -> bool:
            while not self._given_up.is_set():
                since = idle_since()
                if since is not None and time.monotonic() - since >= QUIET_S:
                    return True
                self._given_up.wait(QUIET_S / 2)
            return False

        work: list[Callable[[], None]] = []
        if (plain := self._plain) is not None:
            work.append(lambda: self._prepare(plain, go_on, on_prepared))
            if plain.in_place:
                work.append(lambda: watch(self._source, self._stopped, on_damaged))
        elif (entry := self._entry) is not None:
            work.append(lambda: self._verify(entry, go_on, on_damaged))
        self._threads = [threading.Thread(target=target, name="prepare", daemon=True) for target in work]
        for thread in self._threads:
            thread.start()

    def _prepare(self, plain: PlainLoad, go_on: Callable[[], bool], on_prepared: Callable[[], None]) -> None:
        try:
            prepared = self._store.prepare(self._source, self._shape, plain.contents, go_on)
            if current_platform.is_cpu():
                self._elsewhere = self._contents_elsewhere(plain, prepared, go_on)
        except StoppedError:
            pass
        finally:
            if self._elsewhere is None:
                self._plain = None
        if self._elsewhere is not None:
            on_prepared()

    def _contents_elsewhere(
        self, plain: PlainLoad, prepared: bool, go_on: Callable[[], bool]
    ) -> tuple[Entry | None, Mapping[str, Tensor]]:
        """Of all parameters, from the prepared file, or else of those in place, copied.

        Raises:
            StoppedError: `go_on` said no.
        """
        entry = self._store.find(self._source, self._shape) if prepared else None
        if entry is not None and (tensors := self._maps.map(entry, plain.contents)) is not None:
            self._verified.add(entry.path)  # `prepare` has read it
            return entry, tensors
        return None, plain.copies(go_on)

    def take(self) -> None:
        """Have the model use its weights from where they are now; between two of the engine's steps."""
        if self._elsewhere is None or self._plain is None:
            return
        entry, contents = self._elsewhere
        if not self._given_up.is_set():
            self._plain.use(contents)
            self._entry = entry
        self._plain = self._elsewhere = None

    def _verify(self, entry: Entry, go_on: Callable[[], bool], on_damaged: Callable[[], None]) -> None:
        if not self._store.verify(entry, go_on):
            self._maps.forget(entry)
            on_damaged()
        elif not self._given_up.is_set():
            self._verified.add(entry.path)

    def give_up(self) -> None:
        """Leave the weights unprepared, and where they are: the engine has no time for it."""
        self._given_up.set()

    def stop(self) -> None:
        """Give up what is not done yet: the model goes, or sleeps."""
        self._given_up.set()
        self._stopped.set()

    def join(self) -> None:
        """Wait until nothing reads the weights any more: after `stop`, while the disk takes 64 MB."""
        for thread in self._threads:
            thread.join()


def files_of_load(store: PreparedStore, vllm_config: VllmConfig) -> list[Path]:
    """The files that a load of this model would read now: its prepared weights, or its own.

    Raises:
        OSError: the model's folder can't be read.
    """
    source = Source.look(Path(vllm_config.model_config.model))
    entry = store.find(source, shaping(vllm_config))
    return [entry.path] if entry else sorted(source.folder.glob("*.safetensors"))
