"""What a worker finds in its environment."""

from pathlib import Path

from workbench.engine.environment import worker_environment

COMPILED = Path("/data/compiled")


def test_a_gpu_worker_shares_compiled_kernels_and_keeps_what_the_user_has_set():
    environment = worker_environment("cuda:GPU-7", {"HOME": "/home/me"}, COMPILED)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert environment["VLLM_ENABLE_STARTUP_PLAN"] == "1"
    assert environment["TRITON_CACHE_DIR"].endswith(".triton/cache")
    assert worker_environment("cuda:0", {"TRITON_CACHE_DIR": "/x"}, COMPILED)["TRITON_CACHE_DIR"] == "/x"


def test_a_cpu_worker_gets_none_of_it():
    environment = worker_environment("cpu", {}, COMPILED)
    assert not {"VLLM_ENABLE_STARTUP_PLAN", "TRITON_CACHE_DIR", "CUDA_VISIBLE_DEVICES"} & environment.keys()


def test_a_cpu_worker_keeps_compiled_kernels_where_it_may_write():
    environment = worker_environment("cpu", {"OMP_NUM_THREADS": "3"}, COMPILED)
    assert environment["NUMBA_CACHE_DIR"] == "/data/compiled"
    assert environment["NUMBA_NUM_THREADS"] == "3"
