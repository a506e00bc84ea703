import mmap
import os
import threading
from multiprocessing.shared_memory import SharedMemory

import pytest

from benchmarks import footprint as module
from benchmarks.footprint import Footprint, footprint, settled, shared_memory


def own():
    return footprint([os.getpid()])


def test_descriptors_and_threads_are_counted():
    before = own()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    ends = os.pipe()
    now = own()
    leave.set()
    thread.join()
    for end in ends:
        os.close(end)
    assert now.threads - before.threads == 1
    assert now.descriptors - before.descriptors == 2


def test_resident_memory_is_counted():
    before = own()
    memory = mmap.mmap(-1, 64 << 20)
    memory.write(b"x" * (64 << 20))
    grown = own().rss_bytes - before.rss_bytes
    memory.close()
    assert grown > 60 << 20


def test_a_named_segment_is_counted_once():
    segment = SharedMemory(create=True, size=4096)
    try:
        assert f"/dev/shm/{segment.name}" in shared_memory([])
        assert len([name for name in shared_memory([os.getpid()]) if segment.name in name]) == 1
    finally:
        segment.close()
        segment.unlink()


def test_a_segment_without_a_name_is_counted_while_it_is_mapped():
    segment = SharedMemory(create=True, size=4096)
    segment.unlink()
    assert any(segment.name in name for name in shared_memory([os.getpid()]))
    assert not any(segment.name in name for name in shared_memory([]))
    segment.close()
    assert not any(segment.name in name for name in shared_memory([os.getpid()]))


def test_anonymous_memory_files_are_counted_while_they_are_mapped():
    descriptor = os.memfd_create("leftover")
    os.ftruncate(descriptor, 4096)
    mapping = mmap.mmap(descriptor, 4096)
    os.close(descriptor)
    assert any("leftover" in name for name in shared_memory([os.getpid()]))
    mapping.close()
    assert not any("leftover" in name for name in shared_memory([os.getpid()]))


def readings(*rss_mib):
    return iter([Footprint(mib << 20, 0, 1, 1, frozenset()) for mib in rss_mib]).__next__


async def test_a_reading_is_taken_when_nothing_changes_any_more(monkeypatch):
    monkeypatch.setattr(module, "SETTLE_INTERVAL_S", 0)
    assert (await settled(readings(500, 400, 300, 300, 200))).rss_bytes == 300 << 20


@pytest.mark.parametrize("change", [{"threads": 2}, {"descriptors": 2}, {"shared_memory": frozenset("a")}])
def test_one_thread_or_descriptor_or_segment_is_a_change(change):
    reading = {
        "rss_bytes": 0,
        "private_bytes": 0,
        "threads": 1,
        "descriptors": 1,
        "shared_memory": frozenset(),
    }
    assert Footprint(**reading).steady(Footprint(**reading))
    assert not Footprint(**reading).steady(Footprint(**reading | change))


async def test_what_never_settles_is_read_at_the_deadline(monkeypatch):
    monkeypatch.setattr(module, "SETTLE_TIMEOUT_S", 0)
    assert (await settled(readings(500, 400))).rss_bytes == 500 << 20
