"""What the service hands to the page, the API and notebooks: frozen values, no behaviour.

Times are Unix seconds, durations seconds, sizes bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.pool.snapshot import Progress, SwapRecord
from workbench.telemetry.windows import Outcome

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
    pinned: bool = False
    """Whether it stays on its device once it is loaded."""
    served_length: int = 0
    """Longest sequence served, in tokens; as far as is known before it is loaded, else 0."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    """Its own sampling parameters, by their names in `SamplingOptions`; none while it is not here."""


@dataclass(frozen=True, slots=True)
class VariantView:
    """Another name for a model, with defaults of its own."""

    name: str
    model: str
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """By their names in `SamplingOptions`."""
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation as lists show it."""

    id: int
    title: str
    model: str
    updated_at: float
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Sampling options it was last asked with, by their names in `SamplingOptions`."""


@dataclass(frozen=True, slots=True)
class PresetView:
    """A system prompt and sampling options under a name."""

    name: str
    system: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerStats:
    """The figures of one answer, by the names that they are stored under."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    ttft_s: float = 0.0
    """Request to first token, waiting and switch included."""
    switch_s: float = 0.0
    """Wait for the model to be on the device; 0 when it was there already."""
    switch_reason: str = ""
    """What the switch was: "loaded from disk, evicting adder"; "" without one."""
    tokens_per_s: float = 0.0
    """Decoding speed, after the first token."""
    duration_s: float = 0.0
    finish_reason: str = ""
    queue_s: float = 0.0
    """Wait for a turn at a model that was on the device."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One version of an answer."""

    content: str
    model: str = ""
    stats: AnswerStats = AnswerStats()
    error: str = ""
    """Why the answer is missing or incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView(AnswerView):
    """One turn of a conversation; of an answer, the version that counts."""

    id: int
    role: Literal["system", "user", "assistant"]
    versions: tuple[AnswerView, ...] = ()
    """All versions of an answer; none where there was never but one."""
    version: int = 0
    """Which of them counts: the one that this is."""
    compared: bool = False
    """Whether the versions come from several models that were asked at once."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """The life of a request, phase by phase; together the phases are `duration_s`."""

    id: str
    model: str
    received_at: float
    outcome: Outcome
    error: str
    accept_s: float
    """Until its model was asked for."""
    queue_s: float
    """Waited for its turn, for room or for a worker."""
    switch_s: float
    """Waited, after that, while the model was loaded or woken."""
    prefill_s: float
    """Until the first token; without one, until the end."""
    decode_s: float
    """Until the last token."""
    end_s: float
    """Until it was over."""
    ttft_s: float | None
    tpot_s: float | None
    """Time per output token, after the first; None where all came at once."""
    longest_gap_s: float | None
    duration_s: float
    switch_reason: str
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class SwitchView:
    """A switch, and what starting a process for it would have cost."""

    record: SwapRecord
    cold_start_s: float | None
    """Its worker's own start, from process to warm; None where that was not recorded."""
    cold_load_s: float | None
    """A load after that: its own, or for a wake the median of the model's last ones."""


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
