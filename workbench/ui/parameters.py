"""The sampling parameters as the page offers them. An empty field leaves the model's own default."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import BadRequestError
from workbench.values import SamplingOptions


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field; its name is the one in `SamplingOptions`, which knows the range."""

    name: str
    label: str
    hint: str
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
    Parameter("temperature", "Temperature", "0: the likeliest token"),
    Parameter("top_p", "Top-p", "Share of probability"),
    Parameter("top_k", "Top-k", "Tokens; 0 for all", whole=True),
    Parameter("min_p", "Min-p", "Share of the likeliest"),
    Parameter("repetition_penalty", "Repetition penalty", "1: none"),
    Parameter("max_tokens", "Max tokens", "Longest answer", whole=True),
    Parameter("seed", "Seed", "Repeats an answer", whole=True),
)


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
