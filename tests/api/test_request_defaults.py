"""What a variant adds to a request, and what a request says of itself."""

import pytest

from workbench.access.access import LOCAL, Caller
from workbench.api.request_defaults import check_size, wish_of, with_defaults
from workbench.errors import BadRequestError
from workbench.values import VariantView

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PLAIN = VariantView("adder", "adder")
TERSE = VariantView("terse", "adder", "Be brief.", {"temperature": 0.1, "max_tokens": 9, "stop": ("\n",)})
LAPTOP = Caller(1, "laptop", frozenset({"chat"}))
ASKED = {"role": "user", "content": "Hello"}


def test_a_request_to_a_model_itself_is_passed_on_as_it_is():
    body = {"model": "adder", "messages": [ASKED]}
    assert with_defaults(CHAT, body, PLAIN) is body


def test_a_variant_fills_in_what_a_chat_leaves_open():
    body = {"model": "terse", "messages": [ASKED]}
    assert with_defaults(CHAT, body, TERSE) == {
        "model": "adder",
        "messages": [{"role": "system", "content": "Be brief."}, ASKED],
        "temperature": 0.1,
        "max_tokens": 9,
        "stop": ["\n"],
    }
    assert body == {"model": "terse", "messages": [ASKED]}


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        ({"temperature": 0}, ("temperature", 0)),
        ({"max_tokens": 3}, ("max_tokens", 3)),
        ({"max_completion_tokens": 3}, ("max_completion_tokens", 3)),
        ({"stop": "x"}, ("stop", "x")),
    ],
)
def test_what_a_request_says_counts(given, stays):
    asked = with_defaults(CHAT, {"model": "terse", "messages": [ASKED], **given}, TERSE)
    assert asked[stays[0]] == stays[1]
    assert "max_tokens" not in asked or "max_completion_tokens" not in asked


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_prompt_of_its_own_counts(role):
    own = {"role": role, "content": "Be long."}
    asked = with_defaults(CHAT, {"model": "terse", "messages": [own, ASKED]}, TERSE)
    assert asked["messages"] == [own, ASKED]


def test_each_endpoint_has_its_own_names():
    asked = with_defaults(RESPONSES, {"model": "terse", "input": "Hello"}, TERSE)
    assert asked == {
        "model": "adder",
        "input": "Hello",
        "instructions": "Be brief.",
        "temperature": 0.1,
        "max_output_tokens": 9,
    }
    asked = with_defaults(MESSAGES, {"model": "terse", "messages": [ASKED], "max_tokens": 5}, TERSE)
    assert asked["system"] == "Be brief."
    assert asked["stop_sequences"] == ["\n"]
    assert asked["max_tokens"] == 5


def test_what_generates_nothing_gets_the_model_alone():
    assert with_defaults("/tokenize", {"model": "terse", "prompt": "x"}, TERSE) == {
        "model": "adder",
        "prompt": "x",
    }


@pytest.mark.parametrize(
    ("body", "characters", "most"),
    [
        ({"messages": [{"role": "user", "content": "12345678"}], "max_tokens": 10}, 8, 10),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "1234"}]}]}, 4, None),
        ({"prompt": "1234", "max_completion_tokens": 2}, 4, 2),
        ({"prompt": [1, 2, 3]}, 12, None),
        ({"input": "12345678", "max_output_tokens": 7}, 8, 7),
        ({"messages": 3, "max_tokens": "many"}, 4, None),
        ({}, 0, None),
    ],
)
def test_how_long_a_request_is(body, characters, most):
    wish = wish_of(LOCAL, body, 1)
    assert (wish.prompt_characters, wish.max_tokens) == (characters, most)


def test_whose_share_a_request_uses():
    assert wish_of(LOCAL, {"user": "ann"}, 1).owner == "user:ann"
    assert wish_of(LOCAL, {"user": 3}, 1).owner == "local"
    assert wish_of(LAPTOP, {"user": "ann"}, 1).owner == "laptop"


@pytest.mark.parametrize(("given", "taken"), [(-3, -3), (None, 0), ("urgent", 0), (True, 0)])
def test_a_priority_is_a_whole_number(given, taken):
    assert wish_of(LOCAL, {"priority": given}, 1).priority == taken


def test_only_administrators_are_more_urgent_than_others():
    assert wish_of(LAPTOP, {"priority": -3}, 1).priority == 0
    assert wish_of(LAPTOP, {"priority": 3}, 1).priority == 3
    assert wish_of(Caller(2, "boss", frozenset({"chat", "admin"})), {"priority": -3}, 1).priority == -3


def test_keys_share_no_prefixes():
    salts = {wish_of(Caller(n, "k", frozenset()), {}, 1).cache_salt for n in (1, 2)}
    assert len(salts) == 2
    assert wish_of(LOCAL, {}, 1).cache_salt == ""


def test_a_prompt_however_deep_has_a_length():
    deep: dict = {"content": "x"}
    for _ in range(2000):
        deep = {"content": [deep]}
    assert wish_of(LOCAL, {"messages": [deep]}, 1).prompt_characters == 1


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({}, 1),
        ({"n": 4}, 4),
        ({"n": None}, 1),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [1, 2, 3]}, 1),
    ],
)
def test_how_many_answers_a_request_wants(body, answers):
    assert check_size(body, 10, 8) == answers


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"n": 9}, "9 answers"),
        ({"n": "4"}, "whole number"),
        ({"n": 4.0}, "whole number"),
        ({"n": True}, "whole number"),
        ({"n": 0}, "at least 1"),
        ({"prompt": ["a"] * 9}, "9 answers"),
        ({"stream": "true"}, "stream must be"),
        ({"messages": [ASKED] * 11}, "11 entries"),
        ({"documents": ["a"] * 11}, "11 entries"),
        ({"text_2": ["a"] * 11}, "11 entries"),
        ({"input": [[1]] * 11}, "11 entries"),
    ],
)
def test_what_is_too_much_or_unclear(body, says):
    with pytest.raises(BadRequestError, match=says):
        check_size(body, 10, 8)


def test_one_input_of_many_tokens_is_one():
    assert check_size({"input": list(range(100))}, 10, 8) == 1
