"""Convert a Hugging Face folder (Llama or Qwen3, bf16) to one GGUF file, llama.cpp's format, in bf16.

    python -m benchmarks.peers.to_gguf FOLDER FILE     in an environment that has `gguf`

The same weights, bit by bit: matrices stay bf16, norms become the float32 that llama.cpp computes them in.
The names of tensors and keys follow `gguf-py/gguf/constants.py` of llama.cpp, and the order of the rows of
Q and K its `convert_hf_to_gguf.py`.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
WHOLE_MODEL = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

# llama.cpp splits text before the merges by rules of its own, chosen by name. The second pattern is that of
# the demo models: "qwen2" splits their prompts alike (each digit alone), though not every text.
GPT2_SPLIT = "gpt-2"
SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "qwen2",
    r"\d|\n|, (?=\d)| ?[\p{L}']+| ?[^\s\p{L}\d]|\s": "qwen2",
}
FILE_TYPE_BF16 = 32
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # types of tokens


@dataclass(frozen=True)
class Source:
    """The parts of a Hugging Face folder that a conversion reads. Raises ValueError for what it cannot do."""

    folder: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    chat_template: str

    @classmethod
    def read(cls, folder: Path) -> "Source":
        """The source in `folder`."""
        template = folder / "chat_template.jinja"
        return cls(
            folder,
            json.loads((folder / "config.json").read_text()),
            json.loads((folder / "tokenizer.json").read_text()),
            template.read_text()
            if template.exists()
            else json.loads((folder / "tokenizer_config.json").read_text())["chat_template"],
        )

    @property
    def architecture(self) -> str:
        """Its name in llama.cpp."""
        (name,) = self.config["architectures"]
        if name not in ARCHITECTURES:
            raise ValueError(f"{name} cannot be converted, only {' and '.join(ARCHITECTURES)} can.")
        return ARCHITECTURES[name]


def metadata(source: Source) -> dict[str, Any]:
    """Keys and values of the file's head, in the types of JSON."""
    config, architecture = source.config, source.architecture
    rope = config["rope_parameters"]
    if rope["rope_type"] != "default":
        raise ValueError(f"Rotary embeddings of type {rope['rope_type']} cannot be converted.")
    shape = {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.dimension_count": config["head_dim"],
        "rope.freq_base": float(rope["rope_theta"]),
    }
    return {
        "general.name": source.folder.name,
        "general.file_type": FILE_TYPE_BF16,
        **{f"{architecture}.{key}": value for key, value in shape.items()},
        **{f"tokenizer.{key}": value for key, value in _vocabulary(source).items()},
    }


def _vocabulary(source: Source) -> dict[str, Any]:
    model, size = source.tokenizer["model"], source.config["vocab_size"]
    texts = [f"[UNUSED{number}]" for number in range(size)]
    types = [UNUSED] * size
    for text, number in model["vocab"].items():
        texts[number], types[number] = text, NORMAL
    for added in source.tokenizer["added_tokens"]:
        texts[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return {
        "ggml.model": "gpt2",  # byte-level BPE
        "ggml.pre": _split(source.tokenizer["pre_tokenizer"]),
        "ggml.tokens": texts,
        "ggml.token_type": types,
        "ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "ggml.eos_token_id": source.config["eos_token_id"],
        "ggml.padding_token_id": source.config["pad_token_id"],
        "ggml.add_bos_token": False,
        "chat_template": source.chat_template,
    }


def _split(pre_tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for a pre-tokenizer of the `tokenizers` library."""
    if pre_tokenizer["type"] == "ByteLevel" and pre_tokenizer["use_regex"]:
        return GPT2_SPLIT
    for part in pre_tokenizer.get("pretokenizers", ()):
        name = SPLITS.get(part.get("pattern", {}).get("Regex"))
        if name:
            return name
    raise ValueError("The tokenizer splits text in a way that has no known name in llama.cpp.")


def tensors(source: Source) -> Iterator[tuple[str, Array]]:
    """(name, rows × columns) of each tensor as it goes into the file: uint16 holds bf16."""
    heads, kv_heads = source.config["num_attention_heads"], source.config["num_key_value_heads"]
    pairs_interleaved = source.architecture == "llama"
    for path in sorted(source.folder.glob("model*.safetensors")):
        for name, bits in _bf16_tensors(path):
            if bits.ndim == 1:
                yield renamed(name), as_float32(bits)
            elif pairs_interleaved and ".q_proj." in name:
                yield renamed(name), interleave_pairs(bits, heads)
            elif pairs_interleaved and ".k_proj." in name:
                yield renamed(name), interleave_pairs(bits, kv_heads)
            else:
                yield renamed(name), bits


def renamed(name: str) -> str:
    """The name in llama.cpp of a parameter in Hugging Face's naming. Raises KeyError for an unknown one."""
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE_MODEL:
        return f"{WHOLE_MODEL[stem]}.{kind}"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{IN_LAYER[part]}.{kind}"


def interleave_pairs(rows: Array, heads: int) -> Array:
    """Reorder the rows of Q or K from rotated halves (j, j + d/2) to rotated neighbours (2j, 2j + 1).

    llama.cpp rotates neighbours for Llama, Hugging Face rotates halves of each head for all. `rows` is
    heads·d × columns.
    """
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def as_float32(bits: Array) -> Array:
    """Values of bf16 `bits`, given as uint16: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _bf16_tensors(path: Path) -> Iterator[tuple[str, Array]]:
    """(name, bits as uint16) of the tensors of a safetensors file, mapped; numpy has no bf16."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    for name, entry in header.items():
        if entry["dtype"] != "BF16":
            raise ValueError(f"{name} is {entry['dtype']}; only bf16 models can be converted.")
        start, end = entry["data_offsets"]
        yield name, data[start:end].view(np.uint16).reshape(entry["shape"])


def convert(folder: Path, file: Path) -> None:
    """Write the model in `folder` to `file`."""
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter  # type: ignore[import-not-found]

    source = Source.read(folder)
    writer = GGUFWriter(file, source.architecture)
    for key, value in metadata(source).items():
        kind = GGUFValueType.get_type(value)
        if kind is GGUFValueType.INT32:
            kind = GGUFValueType.UINT32  # which llama.cpp insists on
        writer.add_key_value(key, value, kind)
    for name, array in tensors(source):
        bf16 = GGMLQuantizationType.BF16 if array.dtype == np.uint16 else None
        writer.add_tensor(name, array, raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
