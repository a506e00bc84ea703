"""What is said of the machine: real processes of this one, and a GPU that only pretends."""

import os
import subprocess
import sys
from types import SimpleNamespace

from workbench.telemetry import machine
from workbench.telemetry.machine import GpuLoad, MachineSampler


def test_a_busy_process_is_seen_from_the_second_look_on():
    sampler = MachineSampler()
    idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        pids = {"busy": os.getpid(), "idle": idle.pid}
        assert sampler.sample(pids, ["cpu"]).cores_in_use == {}
        before = sum(os.times()[:2])
        while sum(os.times()[:2]) - before < 0.2:
            pass
        load = sampler.sample({**pids, "gone": 2**22 + 1}, ["cpu"])
    finally:
        idle.communicate()
    assert load.cores_in_use["busy"] > load.cores_in_use["idle"]
    assert set(load.cores_in_use) == {"busy", "idle"}
    assert load.cores == len(os.sched_getaffinity(0))
    assert 0 < load.free_bytes < load.total_bytes


def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 100000\nactive_file 50000\n")
    load = MachineSampler().sample({}, [])
    assert (load.free_bytes, load.total_bytes) == (450_000, 1_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert MachineSampler().sample({}, []).total_bytes > 1_000_000


def test_gpus_are_asked_by_number_or_name_and_left_out_where_the_driver_fails(monkeypatch):
    class NVMLError(Exception):
        pass

    def find(name):
        if name == "GPU-lost":
            raise NVMLError
        return name

    driver = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=find,
        nvmlDeviceGetHandleByUUID=find,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=40 if handle == 1 else 90),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(free=3, total=8),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    load = MachineSampler().sample({}, ["cpu", "cuda:1", "cuda:GPU-a", "cuda:GPU-lost"])
    assert load.gpus == {"cuda:1": GpuLoad(0.4, 3, 8), "cuda:GPU-a": GpuLoad(0.9, 3, 8)}


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert MachineSampler().sample({}, ["cuda:0"]).gpus == {}
