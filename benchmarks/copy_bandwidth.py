"""How fast this machine copies memory: what a load that copies its weights cannot beat.

Bytes per second count what is copied, once: each byte is read and written.
"""

import statistics
import time
from collections.abc import Callable

import torch

COPIED_BYTES = 1 << 30
REPEATS = 5


def warm_copy_bytes_per_s() -> float:
    """Median speed of copying between two buffers whose pages are there already, with torch's threads."""
    source, target = _touched(), _touched()
    return _median_speed(lambda: target.copy_(source))


def first_touch_copy_bytes_per_s() -> float:
    """The same into fresh memory, whose pages the kernel has to find and clear first."""
    source = _touched()
    return _median_speed(lambda: torch.empty_like(source).copy_(source))


def _touched() -> torch.Tensor:
    return torch.ones(COPIED_BYTES, dtype=torch.uint8)


def _median_speed(copy: Callable[[], torch.Tensor]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        copied = copy()
        seconds.append(time.perf_counter() - began)
        del copied  # unmapping is not part of a copy
    return COPIED_BYTES / statistics.median(seconds)
