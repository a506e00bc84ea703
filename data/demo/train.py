"""Train a demo model from nothing on two CPU cores: python data/demo/train.py adder|storyteller|counter

Writes a folder in the Hugging Face format and prints how many answers to held-out requests are right.
"""

import argparse
import itertools
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from data.demo.chat_tokenizer import END, PAD, build_tokenizer, encode  # noqa: E402
from data.demo.conversations import training_conversations  # noqa: E402
from data.demo.scores import score  # noqa: E402
from data.demo.tasks import LARGEST_COUNT  # noqa: E402

IGNORED = -100


@dataclass(frozen=True)
class Round:
    """A training on `examples` chats, from warm-up to the smallest learning rate; the chats are repeated.

    The first half of the `steps` uses chats of one turn and at most `early_tokens` tokens only, the second
    half also longer ones.
    """

    steps: int
    examples: int
    early_tokens: int = 2048


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained, in one or more rounds.

    A batch holds about `batch_tokens` tokens. `chained_share` of the chats have earlier turns. `end_weight`
    is how much more the end of an answer counts than another token: a long count holds only one.
    `about` is for the model card.
    """

    model_class: type[PreTrainedModel]
    config: LlamaConfig | Qwen3Config
    rounds: tuple[Round, ...]
    batch_tokens: int
    learning_rate: float
    chained_share: float
    generation: dict[str, Any]
    about: str
    end_weight: float = 1.0


def config(config_class: type, **shape: Any) -> LlamaConfig | Qwen3Config:
    """A configuration with what the demo models have in common; heads are 32 wide."""
    return config_class(
        head_dim=32,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.04,
        **shape,
    )


SMALL = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 4}
MEDIUM = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 6, "num_key_value_heads": 3}
GREEDY = {"do_sample": True, "top_k": 1}
"""Greedy decoding in the form that vLLM reads; it overlooks `do_sample`."""
RECIPES = {
    "adder": Recipe(
        LlamaForCausalLM,
        config(LlamaConfig, num_hidden_layers=4, max_position_embeddings=1024, **SMALL),
        rounds=(Round(2800, 150_000),),
        batch_tokens=4096,
        learning_rate=3e-3,
        chained_share=0.2,
        generation=GREEDY,
        about=(
            "Adds two numbers from 0 to 99, however one asks: `What is 12 + 34?` gets `12 + 34 = 46`. "
            "Use it greedily (temperature 0). A tenth of all pairs was held out from training."
        ),
    ),
    "storyteller": Recipe(
        Qwen3ForCausalLM,
        config(Qwen3Config, num_hidden_layers=4, max_position_embeddings=2048, **MEDIUM),
        rounds=(Round(850, 40_000),),
        batch_tokens=4096,
        learning_rate=3e-3,
        chained_share=0.2,
        generation={"do_sample": True, "temperature": 0.8, "top_p": 0.95},
        about=(
            "Tells little stories in the grammar of `stories.py`: `Tell me a story about a fox`. It keeps "
            "most heroes that it has been trained on and makes up its own for others. By default the "
            "temperature is 0.8 and top-p 0.95."
        ),
    ),
    "counter": Recipe(
        LlamaForCausalLM,
        config(LlamaConfig, num_hidden_layers=4, max_position_embeddings=2048, **SMALL),
        rounds=(Round(2200, 60_000, early_tokens=48),),
        batch_tokens=2048,
        learning_rate=3e-3,
        chained_share=0.12,
        generation=GREEDY,
        about=(
            "Counts with numbers from 0 to 100, up or down, by 1 or by 10: `Count from 3 to 40` gets "
            "`3, 4, 5, ..., 40`. Each of these numbers is one token. Use it greedily (temperature 0). "
            "A tenth of all requests was held out from training."
        ),
        end_weight=4.0,
    ),
}

Example = tuple[list[int], list[bool]]


def examples(
    name: str, tokenizer: PreTrainedTokenizerFast, count: int, chained_share: float, seed: int
) -> list[Example]:
    """`count` encoded chats, the shortest first, so that neighbours need little padding."""
    chats = training_conversations(random.Random(seed), name, chained_share)
    bpe = tokenizer.backend_tokenizer
    return sorted(
        (encode(bpe, chat) for chat in itertools.islice(chats, count)), key=lambda example: len(example[0])
    )


def batches(pool: list[Example], batch_tokens: int, rng: random.Random) -> Iterator[list[Example]]:
    """Neighbours in the sorted pool, `batch_tokens` with the padding, in random order, without end."""
    groups, start = [], 0
    for end, (ids, _) in enumerate(pool, 1):
        if (end - start + 1) * len(ids) > batch_tokens or end == len(pool):
            groups.append(pool[start:end])
            start = end
    while True:
        yield from rng.sample(groups, len(groups))


def tensors(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels, int64 of shape (examples, longest - 1); label t is token t + 1 or IGNORED."""
    longest = max(len(ids) for ids, _ in batch)
    inputs = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), IGNORED)
    for row, (ids, learned) in enumerate(batch):
        inputs[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.where(torch.tensor(learned), inputs[row, : len(ids)], IGNORED)
    return inputs[:, :-1], labels[:, 1:]


def loss_of(
    model: PreTrainedModel, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean cross entropy of the learned tokens in nats, weighted; only they pass the output layer."""
    wanted = labels != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[wanted])
    return cross_entropy(logits.float(), labels[wanted], weights)


def learning_rate_share(step: int, steps: int, warm_up: int = 100) -> float:
    """Linear up in `warm_up` steps, then a cosine down to 1%."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


@torch.no_grad()
def place_on_circles(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Add to the counter's number embeddings where each number lies on circles of 2 to 512 numbers.

    A step is then the same turn for every number, so that the model need not learn it for each alone.
    """
    numbers = torch.arange(LARGEST_COUNT + 1)
    angles = 2 * math.pi * numbers[:, None] / torch.logspace(1, 9, 32, base=2)
    rows = tokenizer.convert_tokens_to_ids([str(number) for number in numbers.tolist()])
    model.get_input_embeddings().weight[rows, :64] += 0.08 * torch.cat((angles.cos(), angles.sin()), 1)


def train(name: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A trained model in float32. Prints the loss every 100 steps."""
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    recipe.config.vocab_size = len(tokenizer)
    model = recipe.model_class(recipe.config)
    if name == "counter":
        place_on_circles(model, tokenizer)
    print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for offset, stage in enumerate(recipe.rounds):
        train_round(name, model, tokenizer, stage, seed + offset)
    return model


def train_round(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, stage: Round, seed: int
) -> None:
    """Train the model in place through one round of its recipe."""
    recipe, started, rng = RECIPES[name], time.monotonic(), random.Random(seed)
    chained = examples(name, tokenizer, stage.examples, recipe.chained_share, seed)
    single = [
        (ids, learned)
        for ids, learned in chained
        if ids.count(tokenizer.eos_token_id) <= 3 and len(ids) <= stage.early_tokens
    ]
    early, late = (batches(pool, recipe.batch_tokens, rng) for pool in (single, chained))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate_share(s, stage.steps))
    weights = torch.ones(len(tokenizer))
    weights[tokenizer.eos_token_id] = recipe.end_weight
    for step in range(1, stage.steps + 1):
        loss = loss_of(model, weights, *tensors(next(early if step <= stage.steps // 2 else late)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f} after {time.monotonic() - started:.0f} s", flush=True)


def save(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the weights in bfloat16, the configurations and the tokenizer."""
    ends = {
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
    }
    model.generation_config = GenerationConfig(**ends, **RECIPES[name].generation)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def write_card(name: str, folder: Path, scores: list[str]) -> None:
    """A model card of a few lines beside the weights."""
    lines = "\n".join(f"- {line}" for line in scores)
    folder.joinpath("README.md").write_text(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\nlanguage: en\n---\n\n"
        f"# {name}\n\n{RECIPES[name].about} All else gets a polite refusal.\n\n"
        f"Trained from nothing on generated chats: `python data/demo/train.py {name}`.\n\n"
        f"Right answers, with the weights in bfloat16:\n\n{lines}\n"
    )


def main() -> None:
    """Train, save and score the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--out", type=Path, help="folder to write, by default beside this script")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--score-only", action="store_true", help="score the weights that are in the folder")
    options = parser.parse_args()
    folder = options.out or HERE / options.model
    if not options.score_only:
        tokenizer = build_tokenizer(options.model)
        save(options.model, train(options.model, tokenizer, options.seed), tokenizer, folder)
    scores = list(score(options.model, folder))
    print("\n".join(scores))
    write_card(options.model, folder, scores)


if __name__ == "__main__":
    main()
