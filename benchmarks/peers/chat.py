"""One greedy chat completion through a peer's OpenAI-compatible API, timed from outside."""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

TIMEOUT_S = 300


@dataclass(frozen=True)
class Answer:
    """What came back: seconds from sending the request to the first text, and the whole text."""

    first_token_s: float
    text: str


def ask(client: httpx.Client, model: str, prompt: str, max_tokens: int, said: Sequence[str] = ()) -> Answer:
    """The streamed answer of `model`. Raises RuntimeError where it has no text, httpx.HTTPError otherwise.

    `said` is the conversation before, the user's turns and the model's. Temperature 0, and only fields that
    every peer accepts.
    """
    roles = itertools.cycle(("user", "assistant"))
    body = {
        "model": model,
        "messages": [{"role": next(roles), "content": text} for text in (*said, prompt)],
        "temperature": 0,
        "max_tokens": max_tokens,
        "stream": True,
    }
    first, text = 0.0, ""
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body, timeout=TIMEOUT_S) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            piece = _text_of(line)
            if piece and not text:
                first = time.perf_counter() - began
            text += piece
    if not text:
        raise RuntimeError(f"{model} streamed no text.")
    return Answer(first, text)


def _text_of(line: str) -> str:
    """The text in one line of the event stream, "" where it has none."""
    if not line.startswith("data: {"):
        return ""
    event = json.loads(line.removeprefix("data: "))
    if "choices" not in event:
        raise RuntimeError(f"The server answered with an error: {line}")
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
