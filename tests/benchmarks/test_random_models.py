import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import random_models

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that makes a model of a very small shape in a folder of its own."""
    monkeypatch.setattr(random_models, "SHAPES", {"small": SHAPE})

    def make(seed, cache="cache"):
        monkeypatch.setattr(random_models, "CACHE", tmp_path / cache)
        return random_models.random_model("small", seed)

    return make


def test_the_seed_decides_the_weights(made):
    first, again, other = made(1), made(1, "another cache"), made(2)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a_greedy_answer_is_printable_and_has_no_end(made):
    folder = made(1)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    assert tokenizer.decode(prompt["input_ids"][0]).startswith("<|im_start|>user\nHello<|im_end|>")
    written = model.generate(**prompt, max_new_tokens=128, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert len(written) == 128
    assert all(tokenizer.decode([token]).isprintable() for token in written.tolist())
    assert not set(written.tolist()) & set(tokenizer.all_special_ids)
