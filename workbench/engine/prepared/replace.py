"""Files that appear whole or not at all, whatever dies meanwhile; for several processes without a lock."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.engine.chunks import write_all

TEMPORARY = ".tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[int]:
    """A new file, by its descriptor, that takes the place of `path` when the block ends well.

    Its bytes are on disk before its name is, and both when this returns. If the block raises, nothing is
    left. Two writers of one path each write a file of their own, and the later one stays.

    Raises:
        OSError: disk full, folder gone, and the like.
    """
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{TEMPORARY}")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # tells `sweep` that the writer lives
        yield fd
        os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> int:
    """Delete the temporary files of dead writers.

    The lock tells who lives, also across containers, where process ids would not.

    Returns:
        Bytes that temporary files of living writers take.
    """
    living_bytes = 0
    for temporary in folder.glob(f"*{TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink(missing_ok=True)
            except BlockingIOError:
                living_bytes += os.fstat(fd).st_size
            finally:
                os.close(fd)
    return living_bytes


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a small JSON file."""
    with replacing(path) as fd:
        write_all(fd, json.dumps(record, indent=1, sort_keys=True).encode(), 0)


def read_record(path: Path) -> dict[str, Any]:
    """What `write_record` wrote; empty if it is not there or not to be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
