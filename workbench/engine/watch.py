"""What a request of the API has the engine do, noted while it runs; free of vLLM.

vLLM's front end turns one HTTP request into one or more engine requests (`n` prompts, beams), so what they
are given and what they make is carried by a context variable from the HTTP request to each of them.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field


def _ignore(_watch: "Watch") -> None:
    """Nobody is interested."""


@dataclass
class Watch:
    """One HTTP request. Belongs to the task that serves it."""

    priority: int = 0
    """Order in the engine's queue; lower goes first."""
    context_length: int | None = None
    """Tokens that prompt and answer may have together; None for all that the model holds."""
    cache_salt: str = ""
    """Prefixes in the KV cache are shared with requests of the same salt alone."""
    trace_headers: Mapping[str, str] | None = None
    on_growth: Callable[["Watch"], None] = _ignore
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

    def ended(self) -> None:
        """Tell nobody any more: threads that worked for it keep its context, which must keep no model."""
        self.on_growth = _ignore


WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
"""The request that the present task serves."""
