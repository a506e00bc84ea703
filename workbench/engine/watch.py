"""What a request of the API has the engine do, noted while it runs; free of vLLM.

vLLM's front end turns one HTTP request into one or more engine requests (`n` prompts, beams), so what they
are given and what they make is carried by a context variable from the HTTP request to each of them.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Watch:
    """One HTTP request. Belongs to the task that serves it."""

    priority: int = 0
    """Order in the engine's queue; lower goes first."""
    context_length: int | None = None
    """Tokens that prompt and answer may have together; None for all that the model holds."""
    trace_headers: Mapping[str, str] | None = None
    on_growth: Callable[["Watch"], None] = lambda watch: None
    """Called after each engine step that added something."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    first_at: float | None = None
    """Moment of the first token, on the clock of `time.perf_counter`, where only the engine knows it."""
    error: str = ""
    """Why the engine could not answer, as a sentence."""
    engine_requests: set[str] = field(default_factory=set)


WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
"""The request that the present task serves."""
