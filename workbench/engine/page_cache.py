"""The kernel's page cache: a model's file is in RAM before it is asked for, once for all workers."""

import ctypes
import mmap
import os
from pathlib import Path

from workbench.engine.chunks import GoOn, always, read_chunks


def prefetch(path: Path, go_on: GoOn = always) -> None:
    """Read a file into the page cache, unless it is there; for a background thread.

    It reads instead of advising the kernel (POSIX_FADV_WILLNEED), which takes only the first megabyte or
    so of each advice, and does so whether or not requests need the disk.

    Raises:
        StoppedError: `go_on` said no.
        OSError: the file can't be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _resident_bytes(fd) < os.fstat(fd).st_size:
            for _ in read_chunks(fd, 0, go_on):
                pass
    finally:
        os.close(fd)


def resident_bytes(path: Path) -> int:
    """Bytes of a file that the page cache holds, in whole pages.

    The kernel calls everything resident of files that neither belong to this user nor are theirs to write.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _resident_bytes(fd)
    finally:
        os.close(fd)


def _resident_bytes(fd: int) -> int:
    size = os.fstat(fd).st_size
    if size == 0:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    page_count = -(-size // mmap.PAGESIZE)
    residency = (ctypes.c_ubyte * page_count)()
    with mmap.mmap(fd, size, access=mmap.ACCESS_COPY) as pages:
        first = ctypes.c_char.from_buffer(pages)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), residency)
        del first  # the map can't be closed under it
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return (page_count - bytes(residency).count(0)) * mmap.PAGESIZE
