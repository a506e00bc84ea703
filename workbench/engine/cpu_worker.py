"""vLLM's CPU worker, mended: a seeded request whose prompt is read in parts would end the engine; and small
models leave cores to the server.
"""

from typing import Any

import numpy as np
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker

from workbench.engine.linear import use_threads

CORES = torch.get_num_threads()
"""That the worker's environment grants: OMP_NUM_THREADS."""
BYTES_A_THREAD = 16 << 20
"""Of weights read in a step. With fewer, a thread saves less than it costs to have it start and end with each
operator, and takes a core from the app, which passes the tokens on."""
TOKENS_A_READ = 64
"""A step of more computes for longer than it reads."""


def threads_for(weight_bytes: int, tokens: int, cores: int) -> int:
    """How many threads a step is worth.

    Args:
        weight_bytes: of the model.
        tokens: computed in the step.
        cores: that there are.
    """
    return max(1, min(cores, weight_bytes * max(1, tokens // TOKENS_A_READ) // BYTES_A_THREAD))


class SeededCPUModelRunner(CPUModelRunner):
    """Takes back what was drawn for a token that is thrown away.

    A part of a prompt that is not its last yields a token that nobody wants. Upstream then moves the
    request's generator back by the offset that a CUDA generator counts; one of the CPU has none, and raises
    (v1/worker/gpu_model_runner.py, `_bookkeeping_sync`).
    """

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        """Upstream's, after which the generators of such requests are as they were before."""
        before = {row: generator.get_state() for row, generator in self._of_thrown_away().items()}
        output = super()._sample(*args, **kwargs)
        for row, state in before.items():
            self.input_batch.generators[row].set_state(state)
        return output

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Upstream's, which finds no generators where it would move one."""
        unmoved = self._of_thrown_away()
        for row in unmoved:
            del self.input_batch.generators[row]
        try:
            return super()._bookkeeping_sync(*args, **kwargs)
        finally:
            self.input_batch.generators.update(unmoved)

    def _of_thrown_away(self) -> dict[int, torch.Generator]:
        """By row of the batch, generators of seeded requests whose token of this step is thrown away."""
        generators = self.input_batch.generators
        rows = np.nonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])[0]
        return {row: generators[row] for row in map(int, rows) if row in generators}


class WarmCPUWorker(CPUWorker):
    """Runs models with `SeededCPUModelRunner`, each step with as many threads as it is worth."""

    _weight_bytes = 0

    def init_device(self) -> None:
        """Upstream's, which names the class of its model runner itself."""
        super().init_device()
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = SeededCPUModelRunner

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Upstream's, by all cores."""
        use_threads(CORES)
        super().load_model(*args, **kwargs)
        parameters = self.model_runner.get_model().parameters()
        self._weight_bytes = sum(parameter.nbytes for parameter in parameters)

    def execute_model(self, scheduler_output: Any) -> Any:
        """Upstream's, by as many cores as the step is worth."""
        tokens = scheduler_output.total_num_scheduled_tokens
        use_threads(threads_for(self._weight_bytes, tokens, CORES))
        return super().execute_model(scheduler_output)
