"""The sampling parameters as the page offers them. An empty field leaves the model's own default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import BadRequestError
from workbench.values import SamplingOptions


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field; its name is the one in `SamplingOptions`, which refuses what is not `allowed`."""

    name: str
    label: str
    hint: str
    allowed: str
    neutral: str
    """What the engine does where neither the field nor the model says anything."""
    whole: bool = False

    def parse(self, text: str) -> float:
        """Read what was typed; an int where only whole numbers make sense.

        Raises:
            BadRequestError: it is no such number.
        """
        try:
            return int(text) if self.whole else float(text.replace(",", "."))
        except ValueError:
            kind = "a whole number" if self.whole else "a number"
            raise BadRequestError(f"{self.label} must be {kind}, not “{text}”.") from None


PARAMETERS = (
    Parameter("temperature", "Temperature", "0 takes the likeliest token", "0 to 10", "1"),
    Parameter(
        "top_p", "Top-p", "Only the likeliest tokens that have this share of probability", "above 0 to 1", "1"
    ),
    Parameter("top_k", "Top-k", "Only so many of the likeliest tokens", "0 for all", "all", whole=True),
    Parameter("min_p", "Min-p", "Only tokens with this share of the likeliest's probability", "0 to 1", "0"),
    Parameter("repetition_penalty", "Repetition penalty", "1 is none", "above 0 to 10", "1"),
    Parameter("max_tokens", "Max tokens", "Longest answer", "1 or more", "what fits", whole=True),
    Parameter("seed", "Seed", "The same seed repeats an answer", "whole number", "random", whole=True),
)


def own_defaults(model: Mapping[str, float]) -> dict[str, str]:
    """What happens with each field empty, for a model with these defaults: "default 0.7"."""
    return {
        parameter.name: f"default {model[parameter.name]:g}"
        if parameter.name in model
        else f"default {parameter.neutral}"
        for parameter in PARAMETERS
    }


def sampling_options(texts: Sequence[str | None]) -> SamplingOptions:
    """Options from the fields' texts, in the order of `PARAMETERS`.

    Raises:
        BadRequestError: a field holds no number, or one out of range.
    """
    given = {
        parameter.name: parameter.parse(text.strip())
        for parameter, text in zip(PARAMETERS, texts, strict=True)
        if text and text.strip()
    }
    options = SamplingOptions(**given)  # type: ignore[arg-type]
    options.check()
    return options
