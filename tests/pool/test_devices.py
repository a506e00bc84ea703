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
def host(monkeypatch):
    def of(gib):
        monkeypatch.setattr(devices, "host_memory_bytes", lambda: gib * GIB)

    monkeypatch.setattr(devices, "_visible_gpus", list)
    return of


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


def test_the_cpu_is_taken_when_asked_for_though_there_are_gpus(driver):
    assert [device.id for device in find_devices(settings(device="cpu"))] == ["cpu"]


def test_a_gpu_that_is_not_there_is_a_sentence(host):
    with pytest.raises(UnavailableError, match="no NVIDIA driver answers"):
        find_devices(settings(device="cuda"))
