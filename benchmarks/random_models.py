"""Random-weight Llama models of a given size, with a working tokenizer and chat template.

    python -m benchmarks.random_models     makes those that `benchmarks.switch` uses

Made on first use and kept in `benchmarks/.cache/models`. What they write is noise, but always printable
text without an end: see `_never_generated`.
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.cache import CACHE, made_once

VOCABULARY = 4096
CONTEXT_LENGTH = 2048
END, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPES = {
    "mid": {  # 287 million parameters, 0.57 GB
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
    "large": {  # 1.0 billion parameters, 2.0 GB
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


def random_model(shape: str, seed: int = 1) -> Path:
    """Folder of the bf16 model of `shape` (a key of SHAPES) with weights drawn from `seed`.

    Making a large one takes about half a minute and 3 GB of memory. Raises KeyError for an unknown shape.
    """
    sizes = SHAPES[shape]
    return made_once(CACHE / "models" / f"{shape}-{seed}", lambda folder: _make(folder, sizes, seed))


def _make(folder: Path, sizes: dict[str, int], seed: int) -> None:
    tokenizer = _tokenizer()
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight[_never_generated(tokenizer)] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _never_generated(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Ids of control tokens and of tokens that are no printable ASCII text.

    Their rows of the tied embeddings are zero, so their logit is always 0 and another's is larger: greedy
    decoding neither ends early in any engine nor begins with a token that is only a part of a character,
    for which a server would hold back its first piece of text.
    """
    texts = [tokenizer.decode([number]) for number in range(VOCABULARY)]
    control = set(tokenizer.all_special_ids)
    return [
        number
        for number, text in enumerate(texts)
        if number in control or not (text.isascii() and text.isprintable())
    ]


def _tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on Python's standard library: text that every machine has."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, TURN, END_OF_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_training_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=[TURN, END_OF_TURN],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _training_texts() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:80]:
        yield path.read_text(encoding="utf-8")


def main() -> None:
    """Make the models that the benchmarks use, and print their folders."""
    for shape, seed in (("mid", 1), ("large", 1), ("large", 2)):
        print(random_model(shape, seed))


if __name__ == "__main__":
    main()
