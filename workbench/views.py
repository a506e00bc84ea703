"""What the service hands to the page, the API and notebooks: frozen values, no behaviour.

Times are Unix seconds, durations seconds, sizes bytes.
"""

from dataclasses import dataclass
from typing import Literal

from workbench.pool.snapshot import Progress

Residency = Literal[
    "hub",
    "downloading",
    "disk",
    "asleep",
    "loading",
    "waking",
    "device",
    "sleeping",
    "unloading",
    "broken",
]


@dataclass(frozen=True, slots=True)
class ModelView:
    """A catalog model with where it is now."""

    name: str
    source: str
    """Hub id, or folder."""
    residency: Residency
    architecture: str
    parameters: int
    weight_bytes: int
    context_length: int
    licence: str
    description: str
    download_done_bytes: int = 0
    download_total_bytes: int = 0
    error: str = ""
    """Why it can't be served, or why its download failed."""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation as lists show it."""

    id: int
    title: str
    model: str
    updated_at: float
    message_count: int


@dataclass(frozen=True, slots=True)
class AnswerStats:
    """The figures of one answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    ttft_s: float
    """Request to first token, waiting and switch included."""
    switch_s: float
    """Wait for the model to be on the device; 0 when it was there already."""
    switch_reason: str
    """What the switch was: "loaded from disk, evicting adder"; "" without one."""
    tokens_per_s: float
    """Decoding speed, after the first token."""
    duration_s: float
    finish_reason: str


@dataclass(frozen=True, slots=True)
class MessageView:
    """One turn of a conversation."""

    id: int
    role: Literal["system", "user", "assistant"]
    content: str
    model: str
    stats: AnswerStats | None
    error: str
    """Why the answer is missing or incomplete."""


@dataclass(frozen=True, slots=True)
class Token:
    """What an engine step added to the answer; possibly more than one token."""

    text: str
    token_count: int
    """Tokens of the answer so far."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    conversation_id: int
    text: str
    stats: AnswerStats


ChatEvent = Progress | Token | Finished
