"""In which order requests that wait go ahead. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says for itself."""

    priority: int = 0
    """Lower goes first, as in vLLM."""
    owner: str = ""
    """The key or user whose share it uses."""
    expected_tokens: int = 0
    """Of prompt and answer."""


NO_CLAIM = Claim()
