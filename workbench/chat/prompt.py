"""What a model is given of a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.catalog.tables import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """Turns with "role" and "content", as chat templates take them."""

    messages: list[dict[str, str]]
    go_on: bool = False
    """Whether the last one is the model's own, to be gone on with."""


def question_prompt(system: str, before: Sequence[Message], text: str) -> Prompt:
    """A question after the turns before it.

    One that got no answer is left out, so that roles alternate, as most templates want it.
    """
    turns = [{"role": "system", "content": system}] if system else []
    for question, reply in pairwise(before):
        if (question.role, reply.role) == ("user", "assistant") and reply.content:
            turns.append({"role": "user", "content": question.content})
            turns.append({"role": "assistant", "content": reply.content})
    return Prompt([*turns, {"role": "user", "content": text}])


def continuation_prompt(system: str, before: Sequence[Message], question: str, begun: str) -> Prompt:
    """The beginning of an answer, for the model to go on."""
    asked = question_prompt(system, before, question)
    return Prompt([*asked.messages, {"role": "assistant", "content": begun}], go_on=True)
