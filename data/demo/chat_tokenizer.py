"""The tokenizer of the demo models: byte-level BPE, every digit a token of its own. No torch.

The counter's has whole numbers on top: a count then stops where a number is the one asked for.
"""

import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data.demo import conversations, stories, tasks

VOCABULARY = 1536
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
PIECES = r"\d|\n|, (?=\d)| ?[\p{L}']+| ?[^\s\p{L}\d]|\s"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sample_texts(rng: random.Random, count: int = 4000) -> list[str]:
    """Texts of all models in which the tokenizer finds its merges."""
    texts = [*conversations.SMALL_TALK, *conversations.SYSTEM_MESSAGES, *conversations.WORDS]
    for _ in range(count):
        texts += ("system", "user", "assistant", *stories.story_turn(rng))
        for name, skill in conversations.SKILLS.items():
            texts += (skill.refusal, conversations.refused_request(rng, name))
    return texts


def build_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Always the same tokenizer for a model: token 0 pads, 1 starts a message, 2 ends it (and an answer)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sample_texts(random.Random(0)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = CHAT_TEMPLATE
    if name == "counter":
        whole = (", ", *map(str, range(tasks.LARGEST_COUNT + 1)))
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return tokenizer


def encode(bpe: Tokenizer, chat: conversations.Conversation) -> tuple[list[int], list[bool]]:
    """Token ids as the chat template gives them, and which of them the model should learn to write."""
    ids: list[int] = []
    learned: list[bool] = []

    def append(text: str, learn: bool = False) -> None:
        new = bpe.encode(text).ids
        ids.extend(new)
        learned.extend([learn] * len(new))

    if chat.system:
        append(f"{START}system\n{chat.system}{END}\n")
    for turn in chat.turns:
        append(f"{START}user\n{turn.user}{END}\n{START}assistant\n")
        append(turn.assistant + END, turn.learned)
        append("\n")
    return ids, learned
