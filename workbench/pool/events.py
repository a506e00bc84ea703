"""What the controller is told, each a small frozen value; one task handles them in order."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.pool.bring_up import BringUpTimes
from workbench.pool.lease import Ticket
from workbench.pool.messages import Report
from workbench.pool.runner import Runner
from workbench.pool.worker import Worker

if TYPE_CHECKING:
    from workbench.engine.client import EngineClient


@dataclass(frozen=True, slots=True)
class Asked:
    """A request wants a model."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Left:
    """A request is over, or does not wait any longer."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Started:
    """A worker process was started, or could not be."""

    device: str
    outcome: Worker | Exception


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker said something."""

    worker: Worker
    report: Report


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process is gone."""

    worker: Worker
    how: str


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """A bring-up is over, well or not."""

    runner: Runner
    outcome: "tuple[EngineClient, BringUpTimes] | BaseException"


@dataclass(frozen=True, slots=True)
class Slept:
    """A model has fallen asleep, or could not."""

    runner: Runner
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Woken:
    """A model is awake again, or could not be woken."""

    runner: Runner
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """A piece of a model's host memory is pinned, or could not be."""

    runner: Runner
    outcome: int | BaseException
    """Bytes that are left to pin, or why no more can be."""


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    """An administrator wants a model off its device."""

    model: str
    force: bool
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """An administrator wants a model to give its memory up, and keep its worker."""

    model: str
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """An administrator wants a worker to end once its work is done."""

    worker_id: str
    force: bool
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """An administrator wants a worker replaced."""

    worker_id: str
    force: bool
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


RunnerEvent = LoadEnded | Slept | Woken | Pinned
Order = UnloadAsked | SleepAsked | DrainAsked | RestartAsked
Event = Asked | Left | Started | Reported | Died | RunnerEvent | Order | Tick
