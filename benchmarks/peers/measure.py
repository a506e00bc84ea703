"""What a switch of model costs the peers: the same models and prompts, greedy, request to first token."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.peers.llamacpp import llamacpp_server
from benchmarks.peers.returns import measure_returns
from benchmarks.peers.server import Server
from benchmarks.peers.transformers_serve import transformers_serve
from benchmarks.report import Figures

DISCARDED = 2


@dataclass(frozen=True)
class Question:
    """What a model is asked, and what Workbench's answer was, greedily."""

    model: Path
    prompt: str
    answer: str


def measure_peers(
    sizes: Mapping[str, tuple[Question, Question]], context_length: int, max_tokens: int, switches: int = 6
) -> Figures:
    """Figures of each peer at each size, a name for the models that alternate there.

    The figures are those of `measure_switches` and `measure_returns`, named `PEER_SIZE_…`.
    """
    figures: Figures = {}
    models = [question.model for questions in sizes.values() for question in questions]
    peers: dict[str, AbstractContextManager[Server]] = {
        "transformers": transformers_serve(models),
        "llamacpp": llamacpp_server(models, context_length),
    }
    for peer, starting in peers.items():
        with starting as server:
            for size, questions in sizes.items():
                measured = measure_switches(server, questions, max_tokens, switches)
                other, model = (question.model for question in questions)
                measured |= measure_returns(server, model, other, max_tokens)
                figures |= {f"{peer}_{size}_{name}": value for name, value in measured.items()}
    return figures


def measure_switches(
    server: Server, questions: Sequence[Question], max_tokens: int, switches: int
) -> Figures:
    """Seconds to the first token with a switch before it (`s`), and again without (`warm_s`).

    The models alternate. A server that keeps models loaded is made to unload them between the requests, and
    that time is not counted: it would be in a real switch wherever memory is short. `warm_s` repeats the
    prompt, so a peer's prefix cache helps it there. `equal_tokens` is, for each model, how many leading
    tokens of its answer are those of Workbench's; `same_output`, whether all are. Rounding may differ
    between engines. Raises RuntimeError where a model answers the same prompt differently.
    """
    first: list[float] = []
    warm: list[float] = []
    answers: dict[Path, str] = {}
    for number in range(DISCARDED + switches):
        question = questions[number % len(questions)]
        server.make_room()
        switched = server.ask(question.model, question.prompt, max_tokens)
        if answers.setdefault(question.model, switched.text) != switched.text:
            raise RuntimeError(f"{question.model.name} answered differently after a switch.")
        again = server.ask(question.model, question.prompt, max_tokens)
        if number >= DISCARDED:
            first.append(switched.first_token_s)
            warm.append(again.first_token_s)
    return {
        "s": round(statistics.median(first), 4),
        "min_s": round(min(first), 4),
        "all_s": [round(seconds, 4) for seconds in first],
        "warm_s": round(statistics.median(warm), 4),
        "same_output": all(answers[question.model] == question.answer for question in questions),
        "equal_tokens": [
            float(equal_tokens(question.model, answers[question.model], question.answer))
            for question in questions
        ],
    }


def equal_tokens(model: Path, text: str, other: str) -> int:
    """How many leading tokens of two texts are equal, in the vocabulary of `model`."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    pairs = zip(tokenizer.encode(text).ids, tokenizer.encode(other).ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
