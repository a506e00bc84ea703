"""How good a saved demo model is on requests that its training left out."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.demo import conversations, stories, tasks
from data.demo.conversations import Conversation, Turn

SEED = 987_654_321
GREEDY = {"do_sample": False}


class Answers:
    """A saved model in bfloat16 that answers chats in batches."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def __call__(
        self, chats: list[Conversation], new_tokens: int, batch: int = 256, **sampling: Any
    ) -> list[str | None]:
        """The answer to the last request of each chat; None where it did not end in `new_tokens` tokens."""
        prompts = [
            self.tokenizer.apply_chat_template(chat.prompt(), tokenize=False, add_generation_prompt=True)
            for chat in chats
        ]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: list[str | None] = [None] * len(prompts)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = self.tokenizer([prompts[i] for i in chosen], padding=True, return_tensors="pt")
            inputs.pop("token_type_ids", None)
            outputs = self.model.generate(**inputs, max_new_tokens=new_tokens, **sampling)
            for i, ids in zip(chosen, outputs[:, inputs.input_ids.shape[1] :].tolist(), strict=True):
                if self.tokenizer.eos_token_id in ids:
                    answers[i] = self.tokenizer.decode(ids[: ids.index(self.tokenizer.eos_token_id)])
        return answers


def score(name: str, folder: Path) -> Iterator[str]:
    """Lines such as `held-out sums: 100.00% of 23069`; takes a minute or two."""
    answers = Answers(folder)
    yield from {"adder": score_adder, "storyteller": score_storyteller, "counter": score_counter}[name](
        answers
    )
    rng = random.Random(SEED)
    refusal = conversations.SKILLS[name].refusal
    chats = [
        chat_with(rng, name, Turn(conversations.refused_request(rng, name), refusal)) for _ in range(400)
    ]
    yield exact("polite refusals", answers, chats, 40)


def chat_with(rng: random.Random, name: str, last: Turn) -> Conversation:
    """A chat with a system message or none and 0 to 3 earlier turns that ends with the given turn."""
    before = conversations.conversation(rng, name, earlier=rng.randint(1, 4))
    return Conversation(before.system, (*before.turns[1:], last))


def exact(title: str, answers: Answers, chats: list[Conversation], new_tokens: int, batch: int = 256) -> str:
    """Share of greedy answers that are what the chat says, word for word."""
    given = answers(chats, new_tokens, batch, **GREEDY)
    right = [answer == chat.turns[-1].assistant for answer, chat in zip(given, chats, strict=True)]
    wrong = next((i for i, ok in enumerate(right) if not ok), None)
    example = "" if wrong is None else f" (wrong: {chats[wrong].turns[-1].user!r} -> {given[wrong]!r})"
    return f"{title}: {sum(right) / len(right):.2%} of {len(right)}{example}"


def score_adder(answers: Answers) -> Iterator[str]:
    """Every held-out pair in every phrasing, and a sample of them in longer chats."""
    rng = random.Random(SEED)
    turns = [
        Turn(words.format(a=a, b=b), tasks.adder_answer(a, b))
        for a, b in sorted(tasks.held_out_pairs())
        for words in tasks.ADDER_PHRASINGS
    ]
    yield exact(
        "held-out sums, every phrasing", answers, [Conversation(None, (turn,)) for turn in turns], 14, 512
    )
    chats = [chat_with(rng, "adder", turn) for turn in rng.sample(turns, 1000)]
    yield exact("held-out sums in longer chats", answers, chats, 14, 64)


def score_counter(answers: Answers) -> Iterator[str]:
    """Held-out counts of usual length, the same in longer chats, and longer counts."""
    rng = random.Random(SEED)
    usual, long = (held_out_counts(rng, longest, 400) for longest in (tasks.USUAL_ITEMS, 101))
    yield exact("held-out counts", answers, [Conversation(None, (turn,)) for turn in usual], 400)
    chats = [chat_with(rng, "counter", turn) for turn in rng.sample(usual, 200)]
    yield exact("held-out counts in longer chats", answers, chats, 400, 64)
    longer = [Conversation(None, (turn,)) for turn in long if turn.assistant.count(",") >= tasks.USUAL_ITEMS]
    yield exact(f"held-out counts of more than {tasks.USUAL_ITEMS} items", answers, longer, 1200, 64)


def held_out_counts(rng: random.Random, longest: int, number: int) -> list[Turn]:
    """Different requests to count that training left out."""
    counts: set[tasks.Count] = set()
    while len(counts) < number:
        count = tasks.random_count(rng, longest)
        if count.held_out:
            counts.add(count)
    ordered = sorted(counts, key=lambda count: (count.start, count.stop, count.step))
    return [Turn(tasks.count_request(rng, count), count.answer) for count in ordered]


def score_storyteller(answers: Answers) -> Iterator[str]:
    """How many stories the grammar accepts, with the hero that was asked for, and how they vary."""
    rng = random.Random(SEED)
    requests = [hero_request(rng) for _ in range(300)]
    chats = [chat_with(rng, "storyteller", Turn(words, "")) for words, _, _ in requests]

    def share(title: str, told: list[str | None], fits: Callable[[str, int], bool]) -> str:
        good = sum(bool(text) and fits(text, i) for i, text in enumerate(told))
        return f"{title}: {good / len(told):.2%} of {len(told)}"

    def in_grammar(text: str, i: int) -> bool:
        return stories.is_story(text, *requests[i][1:])

    torch.manual_seed(SEED)
    sampled = answers(chats, 250, 100)
    yield share("right stories, greedy", answers(chats, 250, 100, **GREEDY), in_grammar)
    yield share("right stories, temperature 0.8, top-p 0.95", sampled, in_grammar)
    hot = answers(chats, 250, 100, do_sample=True, temperature=1.0, top_p=1.0)
    yield share("right stories, temperature 1", hot, in_grammar)
    yield share("different stories at temperature 1", hot, lambda text, i: text != sampled[i])
    lengths = sorted(len(answers.tokenizer(text).input_ids) for text in sampled if text)
    yield f"tokens in a story: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}"


def hero_request(rng: random.Random) -> tuple[str, str | None, str | None]:
    """A request for a story, with the noun and the name that the story must keep (None: any)."""
    words, hero = stories.requested_hero(rng)
    request = rng.choice(stories.SOME_HERO).format(hero=words)
    return request, hero.noun if hero.noun in words else None, hero.name if hero.name in words else None
