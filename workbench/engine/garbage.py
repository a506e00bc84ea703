"""Keeping garbage collection off the path of a switch."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collections_deferred() -> Iterator[None]:
    """No collection meanwhile, neither Python's own nor one that vLLM asks for.

    vLLM collects in some ten places of a load and a shutdown, and freezes or unfreezes the heap in three.
    In a warm process, with the libraries' million objects, each takes up to 0.3 s. The heap is frozen once,
    when the worker is warm; what a model leaves is young and cheap to collect, and due in `EngineHost.clean`.
    """
    functions = gc.collect, gc.freeze, gc.unfreeze
    was_enabled = gc.isenabled()
    gc.disable()
    gc.collect = lambda generation=2: 0
    gc.freeze = gc.unfreeze = lambda: None
    try:
        yield
    finally:
        gc.collect, gc.freeze, gc.unfreeze = functions
        if was_enabled:
            gc.enable()
