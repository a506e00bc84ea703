import json

import httpx
import pytest

from benchmarks.peers.chat import ask


def answering(*lines: str, seen: list[dict] | None = None) -> httpx.Client:
    """A client of a server that streams `lines`; `seen` gets the bodies of the requests."""

    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(json.loads(request.content))
        return httpx.Response(200, text="\n\n".join(lines))

    return httpx.Client(transport=httpx.MockTransport(handle), base_url="http://peer")


def chunk(**delta: str | None) -> str:
    return "data: " + json.dumps({"choices": [{"delta": delta}]})


def test_the_whole_text_is_returned():
    seen: list[dict] = []
    client = answering(
        chunk(role="assistant", content=""), chunk(content="a "), chunk(content=None), chunk(content="b"),
        "data: [DONE]", seen=seen,
    )  # fmt: skip
    answer = ask(client, "model", "question", 16)
    assert answer.text == "a b"
    assert answer.first_token_s > 0
    assert seen[0]["temperature"] == 0
    assert seen[0]["max_tokens"] == 16


def test_what_was_said_goes_before_the_prompt_in_turns():
    seen: list[dict] = []
    ask(answering(chunk(content="a"), seen=seen), "model", "third", 16, ("first", "second"))
    turns = [(message["role"], message["content"]) for message in seen[0]["messages"]]
    assert turns == [("user", "first"), ("assistant", "second"), ("user", "third")]


def test_an_answer_without_text_is_an_error():
    with pytest.raises(RuntimeError, match="no text"):
        ask(answering(chunk(role="assistant"), "data: [DONE]"), "model", "question", 16)


def test_an_error_within_the_stream_is_raised():
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(answering('data: {"error": "out of memory"}'), "model", "question", 16)
