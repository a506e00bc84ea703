"""Catalogs on disk and model folders made of a few bytes."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.catalog.store import Catalog

CONFIG = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 128, "model_type": "llama"}
README = "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"


def safetensors(**shapes: tuple[int, ...]) -> bytes:
    """A valid file of zeros in bf16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)


def model_files() -> dict[str, bytes]:
    """Name and content of each file of a tiny complete model: 32 parameters, 64 bytes of weights."""
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
        "README.md": README.encode(),
        "model.safetensors": safetensors(**{"model.embed_tokens.weight": (4, 4), "lm_head.weight": (4, 4)}),
    }


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny model into a folder, with files replaced or (None) left out."""

    def write(folder: str = "models/tiny", **changes: bytes | None) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True)
        for name, content in (model_files() | changes).items():
            if content is not None:
                (path / name).write_bytes(content)
        return path

    return write


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "workbench.db")
    yield catalog
    catalog.close()
