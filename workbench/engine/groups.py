"""vLLM's communication groups, kept from one model to the next.

A group of one process is made of threads and sockets all the same: 30 ms to make and 40 ms to destroy them.
They depend only on how a model is spread over processes, which most models share.
"""

from vllm.config import VllmConfig
from vllm.distributed import parallel_state


def keep_groups_for(config: VllmConfig) -> None:
    """Destroy the groups that are there unless `config` would make the same ones; due before a load.

    Those of a dense model in one process are kept. A mixture of experts has a group for its experts.
    """
    parallel = config.parallel_config
    alone = parallel.world_size_across_dp == 1 and not parallel.enable_elastic_ep
    if not alone or config.model_config.is_moe or parallel_state._EP is not None:
        destroy_groups()


def destroy_groups() -> None:
    """Destroy all groups; the next load makes its own."""
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()
