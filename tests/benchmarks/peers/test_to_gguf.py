"""What can be checked without llama.cpp; that it answers alike, `benchmarks.switch --with-peers` shows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.peers.to_gguf import Source, as_float32, interleave_pairs, metadata, renamed, tensors


def turned(pairs: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Pairs (2 × d/2) of a head's values, rotated by `angles`."""
    first, second = pairs
    return np.stack([
        first * np.cos(angles) - second * np.sin(angles),
        first * np.sin(angles) + second * np.cos(angles),
    ])  # fmt: skip


def test_rotated_neighbours_give_the_same_scores_as_rotated_halves():
    heads, size, columns = 3, 8, 5
    random = np.random.default_rng(0)
    q, k = random.normal(size=(2, heads * size, columns))
    x, y = random.normal(size=(2, columns))

    def scores(rows_q, rows_k, pairs_of):
        angles = random_angles * 7, random_angles * 2  # of positions 7 and 2
        heads_of = [(rows @ vector).reshape(heads, size) for rows, vector in ((rows_q, x), (rows_k, y))]
        return [
            float(np.sum(turned(pairs_of(a), angles[0]) * turned(pairs_of(b), angles[1])))
            for a, b in zip(*heads_of, strict=True)
        ]

    random_angles = random.normal(size=size // 2)
    halves = scores(q, k, lambda head: head.reshape(2, -1))
    neighbours = scores(
        interleave_pairs(q, heads), interleave_pairs(k, heads), lambda head: head.reshape(-1, 2).T
    )
    assert neighbours == pytest.approx(halves)


def test_bits_become_the_numbers_they_stand_for():
    bits = np.array([0x0000, 0x3F80, 0xC020, 0x7F80], np.uint16)
    assert as_float32(bits).tolist() == [0.0, 1.0, -2.5, float("inf")]


def test_every_tensor_of_the_demo_models_has_a_name_and_its_shape(demo):
    for name, per_layer in (("adder", 9), ("storyteller", 11)):
        source = Source.read(demo / name)
        layers, width = source.config["num_hidden_layers"], source.config["hidden_size"]
        converted = dict(tensors(source))
        assert len(converted) == layers * per_layer + 2  # and the embeddings, the last norm
        assert converted["token_embd.weight"].shape == (source.config["vocab_size"], width)
        assert converted["token_embd.weight"].dtype == np.uint16
        assert converted["blk.3.ffn_down.weight"].shape == (width, source.config["intermediate_size"])
        assert converted["output_norm.weight"].dtype == np.float32


def test_only_llama_has_its_rows_reordered(demo):
    for name, reordered in (("adder", True), ("storyteller", False)):
        source = Source.read(demo / name)
        as_qwen3 = replace(source, config=source.config | {"architectures": ["Qwen3ForCausalLM"]})
        unchanged = dict(tensors(as_qwen3))
        same = {key for key, rows in tensors(source) if np.array_equal(rows, unchanged[key])}
        assert ("blk.0.attn_q.weight" not in same) is reordered
        assert ("blk.0.attn_k.weight" not in same) is reordered
        assert "blk.0.attn_v.weight" in same


def test_the_head_says_shape_vocabulary_and_template(demo):
    source = Source.read(demo / "counter")
    head = metadata(source)
    assert head["llama.block_count"] == 4
    assert head["llama.rope.freq_base"] == 10000.0
    assert head["llama.rope.dimension_count"] == 32
    tokens = head["tokenizer.ggml.tokens"]
    assert len(tokens) == len(head["tokenizer.ggml.token_type"]) == source.config["vocab_size"]
    assert tokens[2] == "<|im_end|>"
    assert head["tokenizer.ggml.token_type"][2] == 3
    assert tokens[1627] == "100"
    assert head["tokenizer.ggml.token_type"][1627] == 4
    assert head["tokenizer.ggml.merges"][0] == "Ġ a"
    assert head["tokenizer.ggml.eos_token_id"] == 2
    assert "<|im_start|>" in head["tokenizer.chat_template"]


def test_what_it_cannot_convert_is_refused(demo, tmp_path):
    folder = shutil.copytree(demo / "adder", tmp_path / "changed")

    def change(file, **values):
        whole = json.loads((demo / "adder" / file).read_text())
        (folder / file).write_text(json.dumps(whole | values))

    change("config.json", architectures=["GPT2LMHeadModel"])
    with pytest.raises(ValueError, match="GPT2LMHeadModel"):
        metadata(Source.read(folder))
    change("config.json", rope_parameters={"rope_type": "llama3", "rope_theta": 5e5})
    with pytest.raises(ValueError, match="llama3"):
        metadata(Source.read(folder))
    change("config.json")
    change("tokenizer.json", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(ValueError, match="splits text"):
        metadata(Source.read(folder))


def test_an_unknown_parameter_is_refused():
    assert renamed("model.layers.12.mlp.up_proj.weight") == "blk.12.ffn_up.weight"
    assert renamed("lm_head.weight") == "output.weight"
    with pytest.raises(KeyError):
        renamed("model.layers.0.self_attn.q_proj_lora.weight")
