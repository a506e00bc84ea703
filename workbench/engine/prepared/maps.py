"""Maps of prepared weights that outlive their model, in the worker that had it."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor

from workbench.engine.prepared.store import Entry, PreparedStore

KEPT = 4
"""Maps that are kept: they cost page tables, 2 MB for each GB, and no memory that could not be dropped."""


class KeptMaps:
    """Maps prepared weights, and keeps the last few mapped.

    To map 2 GB anew costs 0.3 s, a page fault at a time while the first request is answered, and to unmap
    them 0.15 s of the next switch. What is mapped is the page cache, which the kernel may still drop.
    Nothing writes into the tensors of a model that is prepared (`preparation.py`), so they are as they were.
    """

    def __init__(self, store: PreparedStore) -> None:
        self._store = store
        self._maps: OrderedDict[Entry, dict[str, Tensor]] = OrderedDict()
        """The last used at the end. An entry names its file by identity: another file is another entry."""

    @property
    def store(self) -> PreparedStore:
        return self._store

    def map(self, entry: Entry, expected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """As `PreparedStore.map`."""
        tensors = self._maps.pop(entry, None)
        if tensors is None:
            tensors = self._store.map(entry, expected)
        else:
            self._store.touch(entry)
        if tensors is not None:
            self._maps[entry] = tensors
        return tensors

    def forget(self, entry: Entry) -> None:
        """Keep this map no longer."""
        self._maps.pop(entry, None)

    def trim(self) -> None:
        """Give up the maps of files that are gone, and those not used for longest; due when no one waits."""
        for entry in [entry for entry in self._maps if not entry.path.exists()]:
            self.forget(entry)
        while len(self._maps) > KEPT:
            self._maps.popitem(last=False)
