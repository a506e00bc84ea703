"""What it costs to come back to a conversation after another model was asked: request to first token."""

import statistics
from pathlib import Path

from benchmarks.peers.server import Server
from benchmarks.report import Figures

SAID = (
    "Why is the sky blue, and why is it red in the evening, when the sun goes down behind the hills?",
    "Light from the sun has all colours in it. Air scatters blue light far more than red, so that blue comes "
    "from everywhere above us. In the evening the light has come a long way through the air, and what is "
    "left of it is red.",
    "And the colour of the sea on a clear day: does it come from the sky, or from the water itself?",
    "From both. Still water mirrors the sky, but water also takes in red light, a little with each metre, so "
    "that deep and clear water is blue by itself, even below a grey sky. Near the coast, sand and small "
    "plants make it green or brown.",
    "Would that be the same on another planet, with a thinner atmosphere and a smaller sun far away?",
    "Not quite. Thin air scatters little, so that its sky is dark. On Mars fine dust hangs in the air, which "
    "makes the sky the colour of butter by day, and blue around the sun when it sets.",
    "How do we know that, if nobody has ever been there to look at it with their own eyes?",
    "Machines have. They carry cameras with filters, and a plate with known colours on it to compare with.",
    "Thank you. Could you sum all that up for a child of six years, in a few words?",
)
"""A conversation: the user's turns and the model's."""


def measure_returns(server: Server, model: Path, other: Path, max_tokens: int) -> Figures:
    """Seconds to the first token of later turns of a conversation with `model` (`return_s`, their median).

    Before each turn `other` is asked something short, and has taken the device: where both would fit, the
    server is made to unload what it holds. What was said is the same for every server.
    """
    seconds = []
    for turn in range(0, len(SAID), 2):
        server.make_room()
        server.ask(other, "Hello", max_tokens=1)
        server.make_room()
        answer = server.ask(model, SAID[turn], max_tokens, said=SAID[:turn])
        seconds.append(answer.first_token_s)
    later = seconds[1:]
    return {
        "return_s": round(statistics.median(later), 4),
        "return_all_s": [round(value, 4) for value in later],
    }
