import sys
from types import SimpleNamespace

import pytest

from workbench.errors import UnavailableError
from workbench.pool import devices
from workbench.pool.devices import find_devices
from workbench.settings import Settings

GIB = 1 << 30


def settings(**values):
    return Settings(_env_file=None, **values)


@pytest.fixture
def host_of(monkeypatch):
    """Sets the memory of the machine."""

    def of(gib):
        monkeypatch.setattr(devices, "host_memory_bytes", lambda: gib * GIB)

    return of


@pytest.fixture
def host(monkeypatch, host_of):
    """As `host_of`, on a machine without GPUs."""
    monkeypatch.setattr(devices, "_visible_gpus", list)
    return host_of


@pytest.fixture
def driver(monkeypatch):
    """An NVIDIA driver with two GPUs of 80 GiB."""
    driver = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: ("index", index),
        nvmlDeviceGetHandleByUUID=lambda uuid: ("uuid", uuid),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 * GIB),
        nvmlDeviceGetName=lambda handle: f"GPU {handle[1]}",
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)


@pytest.mark.parametrize("gib", [4, 8, 16, 24, 256])
def test_the_cpu_budget_leaves_room_for_workers_and_app(host, gib):
    host(gib)
    (cpu,) = find_devices(settings())
    assert cpu.id == "cpu"
    assert 1 <= cpu.max_workers <= 4
    assert gib * GIB / 4 <= cpu.budget_bytes
    if gib >= 8:
        assert cpu.budget_bytes + cpu.max_workers * devices.CPU_WORKER_BYTES < gib * GIB


def test_settings_win(host):
    host(24)
    (cpu,) = find_devices(settings(memory_budget="3GiB", max_workers=7))
    assert (cpu.budget_bytes, cpu.max_workers) == (3 * GIB, 7)


def test_every_visible_gpu_is_a_device(driver, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device.id for device in find_devices(settings())] == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-77, 1")
    found = find_devices(settings())
    assert [device.id for device in found] == ["cuda:GPU-77", "cuda:1"]
    assert all(60 * GIB < device.budget_bytes < 80 * GIB for device in found)


def test_gpus_share_the_host_memory_for_models_asleep(driver, host_of):
    host_of(256)
    first, second = find_devices(settings())
    assert first.can_sleep
    assert second.can_sleep
    assert 45 * GIB < first.host_budget_bytes == second.host_budget_bytes < 55 * GIB
    chosen = find_devices(settings(host_memory_budget="30GiB"))
    assert [device.host_budget_bytes for device in chosen] == [15 * GIB, 15 * GIB]
    assert find_devices(settings(host_memory_budget="0"))[0].host_budget_bytes == 0


def test_sleep_can_be_left_off(driver, host_of):
    host_of(256)
    first, _ = find_devices(settings(sleep=False))
    assert (first.can_sleep, first.host_budget_bytes) == (False, 0)


def test_models_on_the_cpu_sleep_without_a_budget_for_it(host):
    host(24)
    (cpu,) = find_devices(settings())
    assert (cpu.can_sleep, cpu.host_budget_bytes) == (True, 0)
    (cpu,) = find_devices(settings(sleep=False))
    assert not cpu.can_sleep


@pytest.mark.parametrize(("gib", "workers"), [(256, 6), (48, 2), (8, 1)])
def test_workers_of_gpus_fit_the_host_memory_too(driver, host_of, gib, workers):
    host_of(gib)
    assert [device.max_workers for device in find_devices(settings())] == [workers, workers]


def test_cuda_graphs_are_in_the_budget(driver, host_of):
    host_of(256)
    few, none = (find_devices(settings(cuda_graph_sizes=sizes))[0] for sizes in ((1, 2, 4), ()))
    assert none.budget_bytes - few.budget_bytes == few.max_workers * 3 * devices.GRAPH_BYTES


def test_the_cpu_is_taken_when_asked_for_though_there_are_gpus(driver):
    assert [device.id for device in find_devices(settings(device="cpu"))] == ["cpu"]


def test_a_gpu_that_is_not_there_is_a_sentence(host):
    with pytest.raises(UnavailableError, match="no NVIDIA driver answers"):
        find_devices(settings(device="cuda"))
