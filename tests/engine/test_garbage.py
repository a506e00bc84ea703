"""Collections put off while a model is loaded or given back."""

import gc
import weakref

from workbench.engine.garbage import collections_deferred


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_meanwhile_and_everything_afterwards():
    gone = weakref.ref(Cycle())
    with collections_deferred():
        assert not gc.isenabled()
        gc.collect()
        assert gone() is not None
    assert gc.isenabled()
    gc.collect()
    assert gone() is None
