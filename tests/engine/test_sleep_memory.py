"""Sleep without a GPU: device memory is host memory that a fake driver maps and unmaps."""

import ctypes
from types import SimpleNamespace

import pytest
import torch
from vllm.device_allocator import AllocationData, cumem
from vllm.device_allocator.cumem import CuMemAllocator

from workbench.engine import pinned
from workbench.engine.sleep_memory import PinnedBackend, SleepAllocator

LOST = 0xEE


class FakeDevice:
    """Maps, unmaps and copies; memory that was unmapped comes back with other contents."""

    def __init__(self):
        self.memory = {}
        self.mapped = set()
        self.copies = []
        self.lib = SimpleNamespace(cudaMemcpyAsync=self.copy)

    def allocate(self, content):
        buffer = ctypes.create_string_buffer(content, len(content))
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        self.mapped.add(address)
        return address

    def create_and_map(self, handle):
        assert handle[2] not in self.mapped
        self.mapped.add(handle[2])

    def unmap_and_release(self, handle):
        self.mapped.remove(handle[2])  # KeyError: a second time, which sticks in the real one
        ctypes.memset(handle[2], LOST, handle[1])

    def copy(self, target, source, size, kind, stream):
        ends = {target.value, source.value}
        for address, buffer in self.memory.items():
            if any(address <= end < address + len(buffer) for end in ends):
                assert address in self.mapped
        ctypes.memmove(target.value, source.value, size.value)
        self.copies.append(size.value)
        return 0

    def content(self, address):
        return self.memory[address].raw

    def CUDART_CHECK(self, code):  # noqa: N802
        assert code == 0

    def cudaHostRegister(self, ptr, size):  # noqa: N802
        return 0

    def cudaHostUnregister(self, ptr):  # noqa: N802
        return 0

    def cudaGetLastError(self):  # noqa: N802
        return 0


@pytest.fixture
def device(monkeypatch):
    device = FakeDevice()
    monkeypatch.setattr(cumem, "libcudart", device)
    monkeypatch.setattr(cumem, "cumem_available", True)
    monkeypatch.setattr(cumem, "create_and_map", device.create_and_map)
    monkeypatch.setattr(cumem, "unmap_and_release", device.unmap_and_release)
    monkeypatch.setattr(CuMemAllocator, "instance", None)
    monkeypatch.setattr("vllm.device_allocator.get_mem_allocator_instance", CuMemAllocator.get_instance)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *arguments: None)
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: None)
    monkeypatch.setattr(pinned, "PIECE_BYTES", 4096)
    return device


def allocate(device, tag, content):
    address = device.allocate(content)
    SleepAllocator.get().pointer_to_data[address] = AllocationData((0, len(content), address, 0), tag)
    return address


def test_vllm_uses_the_same_allocator(device):
    allocator = SleepAllocator.get()
    assert CuMemAllocator.get_instance() is allocator


def test_weights_come_back_as_they_were_and_the_rest_does_not(device):
    weights = [allocate(device, "weights", bytes([value]) * 9000) for value in (1, 2, 3)]
    state = allocate(device, "runtime", b"s" * 100)
    cache = allocate(device, "kv_cache", b"k" * 5000)
    backend = PinnedBackend()
    for _ in range(3):
        backend.suspend(1)
        assert device.mapped == set()
        backend.resume()
        assert [device.content(address) for address in weights] == [bytes([v]) * 9000 for v in (1, 2, 3)]
        assert device.content(state) == b"s" * 100
        assert device.content(cache) == bytes([LOST]) * 5000
    assert max(device.copies) <= 4096


def test_the_host_memory_is_kept_from_one_sleep_to_the_next(device):
    allocate(device, "weights", b"w" * 10_000)
    backend = PinnedBackend()
    assert backend.pin_piece() == 10_000 - 4096
    backend.suspend(1)
    assert backend.pin_piece() == 10_000 - 8192  # also while asleep
    backend.resume()
    backend.suspend(1)
    assert backend.pin_piece() == 0


def test_level_2_drops_the_weights_and_needs_no_host_memory(device, monkeypatch):
    monkeypatch.setattr("workbench.engine.sleep_memory.PinnedMemory", None)
    weights = allocate(device, "weights", b"w" * 1000)
    backend = PinnedBackend()
    backend.suspend(2)
    backend.resume()
    assert device.content(weights) == bytes([LOST]) * 1000


def test_level_2_leaves_nothing_of_an_earlier_level_1(device):
    weights = allocate(device, "weights", b"w" * 1000)
    backend = PinnedBackend()
    for level in (1, 2):
        backend.suspend(level)
        backend.resume()
    assert device.content(weights) == bytes([LOST]) * 1000


def test_memory_freed_while_it_sleeps_is_unmapped_once(device):
    weights = allocate(device, "weights", b"w" * 1000)
    PinnedBackend().suspend(1)
    allocator = SleepAllocator.get()
    handle = allocator.python_free_callback(weights)  # as the C code calls it
    device.unmap_and_release(handle)  # what it does next
    allocator.check_empty()


def test_what_an_unload_leaves_behind_is_an_error(device):
    allocate(device, "weights", b"w" * 1000)
    with pytest.raises(RuntimeError, match="1000 bytes of device memory were not given back"):
        SleepAllocator.get().check_empty()


def test_pools_outlive_the_worker_and_their_allocators_the_pools(device):
    allocator, gone = SleepAllocator.get(), []

    class Part:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            gone.append(self.name)

    allocator.allocator_and_pools["weights"] = [(Part("pool"), Part("wrapper"))]
    allocator.release_pools()  # as vLLM's worker does when it shuts down
    assert gone == []
    allocator.release()
    assert gone == ["pool"]
    allocator.check_empty()
    assert gone == ["pool", "wrapper"]
