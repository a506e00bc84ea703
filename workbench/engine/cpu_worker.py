"""vLLM's CPU worker, mended: a seeded request whose prompt is read in parts would end the engine."""

from typing import Any

import numpy as np
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker


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
    """Runs models with `SeededCPUModelRunner`."""

    def init_device(self) -> None:
        """Upstream's, which names the class of its model runner itself."""
        super().init_device()
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = SeededCPUModelRunner
