"""Who would give way next, and who would not: what `policy.decide` would choose, for people to see."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.pool.board import Board
from workbench.pool.view import PoolView, RunnerView


@dataclass(frozen=True, slots=True)
class GivingWay:
    """The models of one device, in the order in which a model that came now would displace them."""

    memory: tuple[str, ...] = ()
    """Would give their device memory, the first one first."""
    falls_asleep: frozenset[str] = frozenset()
    """Those of them that would keep their worker; the others would be unloaded."""
    worker: str = ""
    """Would give its worker to a model that finds neither room nor one warm; "" if one is, or none would."""
    stays: Mapping[str, str] = field(default_factory=dict)
    """Model that would not give way → why, as the end of a sentence: "is pinned"."""


def giving_way(view: PoolView) -> dict[str, GivingWay]:
    """By device. The order is the policy's own, cases 6, 7 and 13 there; a test compares them."""
    board = Board(view)
    return {device.id: _on_device(board, device.id) for device in view.devices}


def _on_device(board: Board, device: str) -> GivingWay:
    memory = board.evictable(device, None)
    sleepers = board.sleepers(device, None)
    worker = "" if board.has_worker_soon(device) else next((r.model for r in sleepers + memory), "")
    can_sleep = board.devices[device].can_sleep
    here = [runner for runner in board.view.runners if runner.device == device]
    goes = {runner.model for runner in memory + sleepers}
    return GivingWay(
        memory=tuple(runner.model for runner in memory),
        falls_asleep=frozenset(r.model for r in memory if can_sleep and r.can_sleep and r.model != worker),
        worker=worker,
        stays={runner.model: _why(board, runner) for runner in here if runner.model not in goes},
    )


def _why(board: Board, runner: RunnerView) -> str:
    if runner.draining or runner.state in ("unloading", "sleeping"):
        return "gives way already"
    if runner.kept:
        return "is pinned"
    if runner.in_flight:
        return "is answering"
    if runner.model in board.asked_for:
        return "is waited for"
    return {"loading": "is being loaded", "waking": "is waking"}.get(runner.state, "is needed")
