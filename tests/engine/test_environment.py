"""What a worker finds in its environment."""

from workbench.engine.environment import worker_environment


def test_a_gpu_worker_shares_compiled_kernels_and_keeps_what_the_user_has_set():
    environment = worker_environment("cuda:GPU-7", {"HOME": "/home/me"})
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert environment["VLLM_ENABLE_STARTUP_PLAN"] == "1"
    assert environment["TRITON_CACHE_DIR"].endswith(".triton/cache")
    assert worker_environment("cuda:0", {"TRITON_CACHE_DIR": "/x"})["TRITON_CACHE_DIR"] == "/x"


def test_a_cpu_worker_gets_none_of_it():
    environment = worker_environment("cpu", {})
    assert not {"VLLM_ENABLE_STARTUP_PLAN", "TRITON_CACHE_DIR", "CUDA_VISIBLE_DEVICES"} & environment.keys()


def test_compiled_kernels_have_as_many_threads_as_torch():
    environment = worker_environment("cpu", {"OMP_NUM_THREADS": "3"})
    assert environment["NUMBA_NUM_THREADS"] == "3"
