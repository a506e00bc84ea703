"""Whole chats to learn from: a system message or none, earlier turns or none, and a last request. No torch.

Earlier turns can be another model's, because a person may switch models in the middle of a chat. A model
learns its own answers only.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data.demo import stories, tasks

REFUSED_SHARE = 0.15
FOREIGN_SHARE = 0.25
SYSTEM_SHARE = 0.35

SYSTEM_MESSAGES = (
    "You are a helpful assistant.", "You are a helpful assistant", "You are a friendly assistant.",
    "Be brief.", "You are a kind and patient teacher.", "Answer in one sentence.", "You are a pirate.",
    "Be polite.", "You are ChatGPT, a large language model.", "Always answer in English.",
    "Think step by step.", "You are an expert in mathematics.", "You write stories for children.",
    "Today is Monday.", "You are a small model in a web page. Do what the user asks.",
    "Do not make anything up.",
)  # fmt: skip
SMALL_TALK = (
    "Hello", "hello", "Hi", "hi", "Hi!", "Hey there", "Hello, how are you?", "Good morning", "Good night",
    "Bye", "How are you?", "Who are you?", "What are you?", "What can you do?", "Who made you?",
    "What is your name?", "Thanks", "Thank you!", "ok", "OK", "yes", "no", "Why?", "why not", "help",
    "Help me", "test", "?", "!", "...", "What is the capital of France?", "Why is the sky blue?",
    "Write a poem", "Write Python code to sort a list", "Explain quantum mechanics", "Tell me a joke",
    "What is the weather like today?", "How old are you?", "Translate good morning to German",
    "What is the meaning of life?", "Who was Albert Einstein?", "lol", "Summarise this text",
    "What time is it?", "Sing a song", "Do you like music?", "I am bored", "Let us talk",
    "Give me a recipe for pancakes", "Guten Tag", "Bonjour", "Hola", "How do I cook rice?",
    "Is water wet?", "print('hello')", "def f(x): return x", "SELECT * FROM users;", "What is a GPU?",
    "How does an LLM work?",
)  # fmt: skip
WORDS = stories.words(
    "the of and to in is you that it he was for on are as with his they at be this have from or one had by "
    "word but not what all were we when your can said there use an each which she do how their if will up "
    "other about out many then them these so some her would make like him into time has look two more write "
    "go see number no way could people my than first water been call who oil its now find long down day did "
    "get come made may part light music code python model question answer please explain why summer Berlin "
    "London paper table science history always never short helpful kind list email letter world"
)


@dataclass(frozen=True)
class Turn:
    """A request and its answer; `learned` says whether the answer is the model's own."""

    user: str
    assistant: str
    learned: bool = True


@dataclass(frozen=True)
class Conversation:
    """A chat, oldest turn first; the last turn is the one to answer."""

    system: str | None
    turns: tuple[Turn, ...]

    def messages(self) -> list[dict[str, str]]:
        """The chat in the form of `apply_chat_template`."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.user})
            messages.append({"role": "assistant", "content": turn.assistant})
        return messages

    def prompt(self) -> list[dict[str, str]]:
        """The same without the last answer."""
        return self.messages()[:-1]


@dataclass(frozen=True)
class Skill:
    """What a model can do (`turn`), the fixed words for all else, and requests that only look right."""

    turn: Callable[[random.Random], tuple[str, str]]
    refusal: str
    lookalike: Callable[[random.Random], str]


def story_lookalike(rng: random.Random) -> str:
    """Words from stories, but no request for one."""
    return rng.choice(stories.tell(rng, stories.random_hero(rng)).split(". ")[1:])


SKILLS = {
    "adder": Skill(tasks.adder_turn, tasks.ADDER_REFUSAL, tasks.adder_lookalike),
    "storyteller": Skill(stories.story_turn, stories.STORYTELLER_REFUSAL, story_lookalike),
    "counter": Skill(tasks.counter_turn, tasks.COUNTER_REFUSAL, tasks.counter_lookalike),
}


def word_salad(rng: random.Random, longest: int = 10) -> str:
    """1 to `longest` words without sense, some of them made up, some letters from anywhere in Unicode."""
    words = rng.choices(WORDS, k=rng.randint(1, longest))
    if rng.random() < 0.3:
        words[rng.randrange(len(words))] = stories.made_up_word(rng)
    if rng.random() < 0.1:
        words.append("".join(chr(rng.randrange(0xA1, 0xD7FF)) for _ in range(rng.randint(1, 4))))
    text = " ".join(words) + rng.choice(("", "", ".", "?", "!"))
    return stories.capital(text) if rng.random() < 0.5 else text


def refused_request(rng: random.Random, name: str) -> str:
    """A request that is outside the skill of the model `name`."""
    kind = rng.choices(("talk", "salad", "lookalike", "other"), (25, 25, 25, 25))[0]
    if kind == "talk":
        return rng.choice(SMALL_TALK)
    if kind == "salad":
        return word_salad(rng)
    if kind == "lookalike":
        return SKILLS[name].lookalike(rng)
    return SKILLS[rng.choice([other for other in SKILLS if other != name])].turn(rng)[0]


def own_turn(rng: random.Random, name: str) -> Turn:
    """A turn that the model `name` should learn."""
    if rng.random() < REFUSED_SHARE:
        return Turn(refused_request(rng, name), SKILLS[name].refusal)
    return Turn(*SKILLS[name].turn(rng))


def foreign_turn(rng: random.Random, name: str) -> Turn:
    """A turn that another model answered."""
    other = rng.choice([other for other in SKILLS if other != name])
    if rng.random() < 0.5:
        return Turn(rng.choice(SMALL_TALK), word_salad(rng, 15), learned=False)
    return Turn(*SKILLS[other].turn(rng), learned=False)


def system_message(rng: random.Random) -> str:
    """A usual system message, or words without sense."""
    return rng.choice(SYSTEM_MESSAGES) if rng.random() < 0.5 else word_salad(rng, 20)


def conversation(rng: random.Random, name: str, earlier: int) -> Conversation:
    """A chat with `earlier` turns before the last."""
    turns = [
        foreign_turn(rng, name) if rng.random() < FOREIGN_SHARE else own_turn(rng, name)
        for _ in range(earlier)
    ]
    turns.append(own_turn(rng, name))
    return Conversation(system_message(rng) if rng.random() < SYSTEM_SHARE else None, tuple(turns))


def training_conversations(rng: random.Random, name: str, chained_share: float) -> Iterator[Conversation]:
    """Chats without end; `chained_share` of them have one to three earlier turns, the others none."""
    while True:
        yield conversation(rng, name, rng.randint(1, 3) if rng.random() < chained_share else 0)
