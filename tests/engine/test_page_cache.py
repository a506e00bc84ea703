"""The page cache, by the kernel's own account."""

import os

import pytest

from workbench.engine.chunks import CHUNK_BYTES, StoppedError
from workbench.engine.page_cache import prefetch, resident_bytes

SIZE = 3 * CHUNK_BYTES + 5


@pytest.fixture
def path(tmp_path):
    """On disk, and out of the page cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident_bytes(path):
        pytest.fail("this test needs a file system that gives up pages, not tmpfs")
    return path


def test_prefetch_brings_a_file_in(path):
    prefetch(path)
    assert SIZE <= resident_bytes(path) < SIZE + 4096


def test_prefetch_stops_between_chunks(path):
    answers = iter([True, False])
    with pytest.raises(StoppedError):
        prefetch(path, lambda: next(answers))
    assert resident_bytes(path) < SIZE
    prefetch(path)
    prefetch(path, lambda: False)  # has nothing to do any more


def test_an_empty_file_is_nowhere(tmp_path):
    (tmp_path / "empty").touch()
    prefetch(tmp_path / "empty")
    assert resident_bytes(tmp_path / "empty") == 0
