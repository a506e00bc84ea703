"""vLLM's CPU worker, mended: a seeded request whose prompt is read in parts would end the engine; and small
models leave cores to the server.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker

from workbench.engine.linear import use_threads
from workbench.engine.norms import prefer_one_pass

CORES = torch.get_num_threads()
"""That the worker's environment grants: OMP_NUM_THREADS."""
BYTES_A_THREAD = 16 << 20
"""Of weights. With fewer, a thread saves less than it costs to have it start and end with each operator, and
takes a core from the app, which passes the tokens on."""


def threads_for(weight_bytes: int, cores: int) -> int:
    """How many threads the steps of a model are worth: a power of two, or all cores.

    Few counts, because torch compiles what it compiles for each of them.

    Args:
        weight_bytes: in the model's files; 0 where they are not known.
        cores: that there are.
    """
    worth = weight_bytes // BYTES_A_THREAD
    if not weight_bytes or worth >= cores:
        return cores
    return 1 << (max(1, worth).bit_length() - 1)


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
    """Runs models with `SeededCPUModelRunner`, each with as many threads as it is worth."""

    def init_device(self) -> None:
        """Upstream's, which names the class of its model runner itself; and norms of our own."""
        super().init_device()
        if self.model_config.enforce_eager:  # a compiler looks into vLLM's own
            prefer_one_pass()
        if type(self.model_runner) is CPUModelRunner:
            self.model_runner.__class__ = SeededCPUModelRunner

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Upstream's, with all cores; what the model then runs with depends on its size."""
        use_threads(CORES)
        super().load_model(*args, **kwargs)
        files = Path(self.model_config.model).glob("*.safetensors")
        use_threads(threads_for(sum(file.stat().st_size for file in files), CORES))

    def threads(self) -> int:
        """With how many threads the model runs."""
        return torch.get_num_threads()
