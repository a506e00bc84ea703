import pytest

from benchmarks.peers.chat import Answer
from benchmarks.peers.measure import DISCARDED, Question, equal_tokens, measure_switches


class FakeServer:
    """Answers with the model's name; a switch takes 2 s, the first one 9 s."""

    def __init__(self):
        self.calls = []
        self.current = None
        self.loads = 0

    def make_room(self):
        self.calls.append("make room")

    def ask(self, model, prompt, max_tokens):
        self.calls.append((model.name, prompt))
        switched, self.current = model != self.current, model
        self.loads += switched
        seconds = (9.0 if self.loads <= DISCARDED else 2.0) if switched else 0.5
        return Answer(seconds, f"I am the {model.name}")


@pytest.fixture
def questions(demo):
    return [
        Question(demo / name, f"Who is {name}?", answer)
        for name, answer in (("adder", "I am the adder"), ("storyteller", "I am your storyteller"))
    ]


def test_models_alternate_and_each_is_asked_twice(questions):
    server = FakeServer()
    measure_switches(server, questions, 16, switches=2)
    adder, storyteller = ("adder", "Who is adder?"), ("storyteller", "Who is storyteller?")
    once = ["make room", adder, adder, "make room", storyteller, storyteller]
    assert server.calls == once * 2


def test_the_first_loads_do_not_count(questions):
    figures = measure_switches(FakeServer(), questions, 16, switches=3)
    assert figures["s"] == figures["min_s"] == 2.0
    assert figures["all_s"] == [2.0] * 3
    assert figures["warm_s"] == 0.5


def test_answers_are_compared_with_workbench(questions):
    figures = measure_switches(FakeServer(), questions, 16, switches=2)
    assert figures["same_output"] is False
    same, different = figures["equal_tokens"]
    assert same > different > 0
    assert measure_switches(FakeServer(), questions[:1], 16, switches=2)["same_output"] is True


def test_a_model_that_answers_differently_after_a_switch_is_an_error(questions):
    class Broken(FakeServer):
        def ask(self, model, prompt, max_tokens):
            answer = super().ask(model, prompt, max_tokens)
            return Answer(answer.first_token_s, answer.text + str(self.loads))

    with pytest.raises(RuntimeError, match="adder answered differently"):
        measure_switches(Broken(), questions, 16, switches=2)


def test_leading_tokens_that_are_equal(demo):
    assert equal_tokens(demo / "adder", "1 + 2 = 3", "1 + 2 = 3") > equal_tokens(
        demo / "adder", "1 + 2", "1 + 3"
    )
    assert equal_tokens(demo / "adder", "12", "13") == 1
    assert equal_tokens(demo / "adder", "12", "") == 0
