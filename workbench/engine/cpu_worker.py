"""vLLM's CPU worker, mended: a seeded request whose prompt is read in parts would end the engine."""

from typing import Any

import numpy as np
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker


class SeededCPUModelRunner(CPUModelRunner):
    """Takes back what was drawn for a token that is thrown away.

    A part of a prompt that is not its last yields a token that nobody wants. Upstream then moves the
    request's generator back by the offset that a CUDA generator counts; one of the CPU has none, and raises
    (v1/worker/gpu_model_runner.py, `_bookkeeping_sync`).
    """

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Upstream's, which finds no generators where it would move one."""
        generators = self.input_batch.generators
        thrown_away = np.nonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])[0]
        unmoved = {row: generators.pop(row) for row in map(int, thrown_away) if row in generators}
        for generator in unmoved.values():
            generator.manual_seed(generator.initial_seed())  # nothing was drawn before that counts
        try:
            return super()._bookkeeping_sync(*args, **kwargs)
        finally:
            generators.update(unmoved)


class WarmCPUWorker(CPUWorker):
    """Runs models with `SeededCPUModelRunner`."""

    def init_device(self) -> None:
        """Upstream's, which names the class of its model runner itself."""
        super().init_device()
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = SeededCPUModelRunner
