"""Pinned host memory with a driver that only keeps the books."""

import pytest

from workbench.engine import pinned
from workbench.engine.pinned import PinnedMemory, pieces


class FakeDriver:
    def __init__(self, fails=False):
        self.pinned = {}
        self.fails = fails
        self.error_pending = False

    def cudaHostRegister(self, ptr, size):  # noqa: N802
        if self.fails:
            self.error_pending = True
            return 1
        self.pinned[ptr] = size
        return 0

    def cudaHostUnregister(self, ptr):  # noqa: N802
        del self.pinned[ptr]
        return 0

    def cudaGetLastError(self):  # noqa: N802
        self.error_pending = False
        return 1


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(pinned, "PIECE_BYTES", 4096)


def test_memory_is_pinned_piece_by_piece_and_unpinned_in_the_end():
    driver = FakeDriver()
    memory = PinnedMemory(10_000, driver)
    assert [memory.pin_piece() for _ in range(4)] == [5904, 1808, 0, 0]
    assert driver.pinned == {memory.address: 4096, memory.address + 4096: 4096, memory.address + 8192: 1808}
    memory.close()
    assert driver.pinned == {}


def test_what_cannot_be_pinned_is_an_error_that_does_not_stick():
    driver = FakeDriver(fails=True)
    memory = PinnedMemory(10_000, driver)
    with pytest.raises(RuntimeError, match="4096 bytes can't be pinned"):
        memory.pin_piece()
    assert not driver.error_pending
    memory.close()


def test_the_memory_can_be_written_whether_pinned_or_not():
    memory = PinnedMemory(10_000, FakeDriver())
    memory.tensor[:] = 7
    assert memory.tensor.sum() == 70_000


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 100, [(0, 100)]),
        (0, 8192, [(0, 4096), (4096, 4096)]),
        (4000, 200, [(0, 96), (96, 104)]),
        (4096, 5000, [(0, 4096), (4096, 904)]),
        (10, 0, []),
    ],
)
def test_no_part_of_a_copy_spans_two_pieces(offset, size, expected):
    assert list(pieces(offset, size)) == expected
