"""The KV caches of serving models, looked at only while somebody asks."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from workbench.engine.kv_cache import KvSnapshot

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient

log = structlog.get_logger("workbench.kv")

ANSWER_WAIT_S = 0.25
"""For so long a look waits for engines; those in a longer step are shown as they were."""
ANSWER_LIMIT_S = 60.0
"""After this the question is put anew: an engine that was unloaded meanwhile never answers."""
MAX_SHARE = 0.02
"""Of an engine's time, for looking at it."""


@dataclass(frozen=True, slots=True)
class KvCacheView:
    """One serving model's KV cache, as last seen."""

    model: str
    snapshot: KvSnapshot | None
    """None until the engine has answered once."""
    age_s: float = 0.0
    """Since the engine was in this state."""
    waiting_s: float = 0.0
    """For how long it has not answered: a step is under way. 0 if the view is fresh."""
    failed: bool = False
    """Whether the engine could not tell."""
    at: float = field(default_factory=time.monotonic, compare=False)
    """The moment of this view, by the clock `time.monotonic`."""


class KvCaches:
    """Asks engines, one question each at a time.

    Args:
        clients: those of the models that serve now, by name. Who is asleep, loads or leaves is not asked.
    """

    def __init__(self, clients: "Callable[[], Mapping[str, EngineClient]]") -> None:
        self._clients = clients
        self._watched: dict[str, _Watch] = {}

    async def look(self) -> list[KvCacheView]:
        """The KV cache of each serving model; takes at most `ANSWER_WAIT_S`."""
        clients = self._clients()
        for model, watch in list(self._watched.items()):
            if clients.get(model) is not watch.client:
                self._watched.pop(model).stop()
        for model, client in clients.items():
            self._watched.setdefault(model, _Watch(model, client))
        watches = list(self._watched.values())
        if questions := [question for watch in watches if (question := watch.ask())]:
            await asyncio.wait(questions, timeout=ANSWER_WAIT_S)
        return [watch.view() for watch in watches]

    def close(self) -> None:
        """Put no more questions, and wait for no answers."""
        for watch in self._watched.values():
            watch.stop()
        self._watched.clear()


class _Watch:
    """What is known of one engine."""

    def __init__(self, model: str, client: "EngineClient") -> None:
        self.client = client
        self._model = model
        self._snapshot: KvSnapshot | None = None
        self._question: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._ask_again_at = 0.0
        self._failed = False

    def ask(self) -> "asyncio.Task[None] | None":
        """The question under way, put now if there is none and one is due."""
        now = time.monotonic()
        if self._question is None and now >= self._ask_again_at:
            self._asked_at = now
            self._question = asyncio.create_task(self._put(), name=f"kv cache of {self._model}")
        return self._question

    async def _put(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                self._snapshot = await self.client.kv_snapshot()
            self._ask_again_at = time.monotonic() + self._snapshot.took_s / MAX_SHARE
            self._failed = False
        except TimeoutError:
            log.info("an engine has not told its KV cache", model=self._model, seconds=ANSWER_LIMIT_S)
        except Exception as error:
            if not self._failed:
                log.warning("an engine can't tell its KV cache", model=self._model, error=repr(error))
            self._failed = True
        finally:
            self._question = None

    def view(self) -> KvCacheView:
        now = time.monotonic()
        return KvCacheView(
            model=self._model,
            snapshot=self._snapshot,
            age_s=now - self._snapshot.taken_at if self._snapshot else 0.0,
            waiting_s=now - self._asked_at if self._question else 0.0,
            failed=self._failed,
            at=now,
        )

    def stop(self) -> None:
        if self._question is not None:
            self._question.cancel()
