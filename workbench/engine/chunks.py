"""Reading and writing large files in a background thread: in chunks, so that it can pause and be stopped."""

import os
from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 20
"""Read or written at a time, in bytes: little enough to stay in a core's cache, and a stop waits for one."""

GoOn = Callable[[], bool]
"""Asked before every chunk. It may block for as long as others need the machine; False gives the work up."""


class StoppedError(Exception):
    """Background work was given up, because its `GoOn` said so."""


def always() -> bool:
    """The `GoOn` of work that nothing interrupts."""
    return True


def check(go_on: GoOn) -> None:
    """Wait while `go_on` does; raise StoppedError once it says no."""
    if not go_on():
        raise StoppedError


def read_chunks(fd: int, start: int, go_on: GoOn) -> Iterator[memoryview]:
    """The bytes of a file from `start` to its end; each view holds until the next is asked for.

    Raises:
        StoppedError: `go_on` said no.
        OSError: the file can't be read.
    """
    buffer = memoryview(bytearray(CHUNK_BYTES))
    check(go_on)
    while count := os.preadv(fd, [buffer], start):
        yield buffer[:count]
        start += count
        check(go_on)


def write_all(fd: int, data: memoryview | bytes, start: int) -> None:
    """Write all of `data` at byte `start` of a file; OSError if it doesn't fit."""
    rest = memoryview(data)
    while len(rest):
        count = os.pwrite(fd, rest, start)
        rest = rest[count:]
        start += count
