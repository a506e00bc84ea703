"""Models made of the adder: one whose template knows thinking, and one that embeds."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT

TOKENS = ("<think>", "</think>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


def make_thinker(folder: Path) -> None:
    """Write the model into `folder`. It takes its sums for thoughts, unless thinking is switched off."""
    shutil.copytree(ROOT / "data/demo/adder", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = json.loads((folder / "config.json").read_text())
    size = config["vocab_size"]
    config["vocab_size"] = size + len(TOKENS)
    (folder / "config.json").write_text(json.dumps(config))

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        {
            "id": size + number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
        for number, token in enumerate(TOKENS)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    weights = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in weights:
            # As the token that ends a turn: they are given, never chosen, and change what follows little.
            rows = torch.zeros(len(TOKENS), weights[name].shape[1], dtype=weights[name].dtype)
            weights[name] = torch.cat([weights[name], rows])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def make_embedder(folder: Path) -> None:
    """Write a model into `folder` that gives the adder's mean hidden state, at length 1."""
    shutil.copytree(ROOT / "data/demo/adder", folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["LlamaModel"]
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name.removeprefix("model."): value for name, value in weights.items() if "lm_head" not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for n, (path, kind) in enumerate(modules.items())
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": config["hidden_size"], "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
