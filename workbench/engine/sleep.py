"""vLLM's GPU worker for models that sleep: idle, they give their device memory up and keep the rest.

What stays is what makes a load slow: process, device context, compiled code and CUDA graphs. Read against
vLLM 0.32.0's sources; not yet run on a GPU.
"""

from typing import Any

import torch
from torch import nn
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import DefaultModelLoader
from vllm.v1.worker.gpu_worker import Worker

from workbench.engine.sleep_memory import PinnedBackend, SleepAllocator


class SleepingWorker(Worker):
    """Sleeps at vLLM's level 1, weights in pinned host memory, or 2, weights dropped and read again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        SleepAllocator.get()
        self._backend = PinnedBackend()
        self._sums: dict[str, int] | None = None
        """Of the weights that level 2 has dropped."""

    @property
    def sleep_mode_backend(self) -> PinnedBackend:
        return self._backend

    def pin_host_memory(self) -> int:
        """Pin a further piece of the host memory that level 1 uses; returns the bytes that are left."""
        return self._backend.pin_piece()

    def sleep(self, level: int = 1) -> None:
        """Replace upstream's, which fails if another process takes device memory at the same time."""
        torch.cuda.synchronize()
        if level == 2:
            model = self.model_runner.get_model()
            self._sums = weight_sums(model)
            self._sleep_saved_buffers = {name: tensor.cpu() for name, tensor in model.named_buffers()}
        self._backend.suspend(level)
        torch.cuda.synchronize()

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Upstream's; after level 2 the weights are read again too, so that nothing answers without them.

        Raises:
            RuntimeError: what was read is not what was dropped.
        """
        super().wake_up(tags)
        if self._sums is not None:
            loader = DefaultModelLoader(LoadConfig(load_format="auto", use_tqdm_on_load=False))
            model = self.model_runner.get_model()
            self.reload_weights(weights_iterator=loader.get_all_weights(self.model_config, model))
            torch.cuda.empty_cache()  # a layer at a time was read beside its place
            sums, self._sums = self._sums, None
            if weight_sums(model) != sums:
                raise RuntimeError("the weights were not read again as they were")

    def shutdown(self) -> None:
        """Upstream's, and the pinned host memory is given back."""
        super().shutdown()
        self._backend.close()


def weight_sums(model: nn.Module) -> dict[str, int]:
    """The sum of the bytes of each parameter: some milliseconds for 10 GB on a GPU."""
    sums = {
        name: tensor.detach().contiguous().view(-1).view(torch.uint8).sum(dtype=torch.int64)
        for name, tensor in model.named_parameters()
    }
    return {name: int(value) for name, value in sums.items()}
