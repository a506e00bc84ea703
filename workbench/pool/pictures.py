"""The controller's state as two pictures: a view for the policy, a snapshot for people."""

import time
from collections.abc import Callable, Collection, Container

from workbench.pool import policy
from workbench.pool.devices import Device
from workbench.pool.health import Limits
from workbench.pool.lease import Ticket
from workbench.pool.queue import Queue
from workbench.pool.runner_set import RunnerSet
from workbench.pool.snapshot import DeviceSnapshot, PoolSnapshot, QueuedRequest, WaiterSnapshot
from workbench.pool.worker_set import WorkerSet


def view(
    limits: Limits,
    devices: Collection[Device],
    workers: WorkerSet,
    runners: RunnerSet,
    queue: Queue,
    evicted_for: Container[str],
    pinned: Callable[[str], bool],
) -> policy.PoolView:
    """What `policy.decide` looks at.

    Of several specs of a model that requests wait for, the last to come counts. `evicted_for` are models for
    which others have given way.
    """
    taken = {worker.id for runner in runners for worker in runner.workers}
    newest = {ticket.spec.name: ticket.spec for ticket in queue}
    return policy.PoolView(
        now=time.monotonic(),
        fairness_wait=limits.fairness_wait,
        devices=tuple(
            policy.DeviceView(
                device.id,
                device.budget_bytes,
                device.max_workers,
                limits.spare_workers,
                device.can_sleep,
                device.host_budget_bytes,
                workers.may_start,
            )
            for device in devices
        ),
        workers=tuple(workers.views(taken)),
        runners=tuple(
            runner.view(
                kept=pinned(runner.spec.name),
                outdated=newest.get(runner.spec.name, runner.spec) != runner.spec,
            )
            for runner in runners
        ),
        waiters=tuple(
            policy.WaiterView(
                ticket.number,
                ticket.spec.name,
                newest[ticket.spec.name].device_bytes,
                ticket.since,
                ticket.spec.name in evicted_for,
            )
            for ticket in queue.in_order()
        ),
    )


def snapshot(
    devices: Collection[Device],
    workers: WorkerSet,
    runners: RunnerSet,
    queue: Queue,
    pinned: Callable[[str], bool],
) -> PoolSnapshot:
    """What the page, the API and notebooks show."""
    held = {
        worker.id: (runner.spec.name, len(runner.holders)) for runner in runners for worker in runner.workers
    }
    by_model: dict[str, list[Ticket]] = {}
    for ticket in queue:
        by_model.setdefault(ticket.spec.name, []).append(ticket)
    return PoolSnapshot(
        workers=tuple(worker.snapshot(held.get(worker.id)) for worker in workers),
        runners=tuple(runner.snapshot(pinned(runner.spec.name)) for runner in runners),
        waiters=tuple(
            WaiterSnapshot(model, len(tickets), tickets[0].since, tickets[0].progress)
            for model, tickets in by_model.items()
        ),
        devices=tuple(
            DeviceSnapshot(
                device.id,
                device.name,
                device.budget_bytes,
                sum(runner.device_bytes for runner in runners if runner.device == device.id),
                device.can_sleep,
                device.host_budget_bytes,
                sum(runner.host_bytes for runner in runners if runner.device == device.id),
            )
            for device in devices
        ),
        at=time.monotonic(),
    )


def queued(queue: Queue) -> list[QueuedRequest]:
    """The requests that wait, in the order in which they are to go ahead."""
    now = time.monotonic()
    return [
        QueuedRequest(
            ticket.spec.name,
            ticket.claim.owner,
            ticket.claim.priority,
            ticket.claim.expected_tokens,
            now - ticket.since,
            ticket.progress,
        )
        for ticket in queue.in_order()
    ]
