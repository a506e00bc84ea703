from pathlib import Path

from benchmarks.peers.chat import Answer
from benchmarks.peers.returns import SAID, measure_returns

MODEL, OTHER = Path("model"), Path("other")


class FakeServer:
    """Takes a second to answer the first turn of a conversation, and two for each later one."""

    def __init__(self):
        self.calls = []

    def make_room(self):
        self.calls.append("make room")

    def ask(self, model, prompt, max_tokens, said=()):
        self.calls.append((model, prompt, len(said)))
        return Answer(2.0 if said else 1.0, "text")


def test_another_model_is_asked_before_each_turn_and_the_first_does_not_count():
    server = FakeServer()
    figures = measure_returns(server, MODEL, OTHER, 16)
    assert figures == {"return_s": 2.0, "return_all_s": [2.0] * 4}
    between = ["make room", (OTHER, "Hello", 0), "make room"]
    assert server.calls[:8] == [*between, (MODEL, SAID[0], 0), *between, (MODEL, SAID[2], 2)]
