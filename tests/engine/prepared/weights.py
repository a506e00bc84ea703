"""Small sources of weights, and the parameters that a load of them would leave."""

import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from workbench.engine.prepared.fingerprint import Source

SHAPE = {"vllm": "0", "dtype": "bfloat16"}


def parameters(seed: int = 0, size: int = 300) -> dict[str, torch.Tensor]:
    """Several types, odd sizes that need padding, a scalar, and an empty one at the end."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(size, 33, generator=generator).to(torch.bfloat16),
        "scale": torch.randn((), generator=generator),
        "mask": torch.rand(7, generator=generator) > 0.5,
        "norm": torch.randn(5, 3, generator=generator),
        "codes": torch.randint(0, 255, (3, 3), generator=generator, dtype=torch.uint8),
        "none": torch.empty(0, 4),
    }


def make_source(folder: Path, seed: int = 0) -> Path:
    """A model's folder, old enough for its identity to be trusted."""
    folder.mkdir(exist_ok=True)
    save_file(parameters(seed), folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "test"}')
    return settle(folder)


def settle(folder: Path) -> Path:
    """Wait until the clock has moved on from the last change."""
    while not Source.look(folder).settled:
        time.sleep(0.005)
    return folder


def same(found: dict[str, torch.Tensor] | None, wanted: dict[str, torch.Tensor]) -> bool:
    return (
        found is not None
        and found.keys() == wanted.keys()
        and all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
        and all(found[name].dtype == tensor.dtype for name, tensor in wanted.items())
    )
