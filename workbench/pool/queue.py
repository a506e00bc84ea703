"""The requests that wait for a model, in order of arrival and in that of scheduling."""

from collections.abc import Iterator

from workbench.errors import UnavailableError, WorkbenchError
from workbench.pool.lease import Ticket
from workbench.pool.scheduling import Scheduler


class Queue:
    """Owned by the controller's task. Iterates in order of arrival.

    Args:
        scheduler: gives requests their places.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: dict[int, Ticket] = {}

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)

    def __getitem__(self, number: int) -> Ticket:
        return self._waiting[number]

    def in_order(self) -> list[Ticket]:
        """As they are scheduled; of those that are equal, the first to come first."""
        return sorted(self, key=lambda ticket: ticket.place.rank)

    def of(self, model: str) -> list[Ticket]:
        """Those that wait for a model, in order of arrival."""
        return [ticket for ticket in self if ticket.spec.name == model]

    def join(self, ticket: Ticket) -> None:
        """Have a request wait."""
        ticket.place = self._scheduler.arrive(ticket.claim, ticket.since)
        ticket.joined = True
        self._waiting[ticket.number] = ticket

    def take(self, number: int) -> Ticket:
        """A request's turn has come."""
        return self._waiting.pop(number)

    def leave(self, ticket: Ticket) -> None:
        """A request is over, whether its turn had come or not."""
        self._waiting.pop(ticket.number, None)
        if ticket.joined:
            self._scheduler.leave(ticket.place, ticket.claim, ticket.granted)

    def refuse_all(self, error: WorkbenchError, model: str | None = None) -> None:
        """Fail those that wait for a model, or all."""
        for ticket in list(self) if model is None else self.of(model):
            self.take(ticket.number).refuse(error)


def full(waiting: int) -> UnavailableError:
    """What a request is told that may not even wait."""
    return UnavailableError(f"{waiting} requests wait for a model already, as many as may. Try again later.")
