"""A model whose template knows thinking: the adder, with two more tokens in its vocabulary."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.conftest import ROOT

TOKENS = ("<think>", "</think>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
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
