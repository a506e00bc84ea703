"""Errors a person may see.

Each message is one sentence or two: what is wrong, why, and what to do about it. `status` is the HTTP
status that the same error has at every door.
"""


class WorkbenchError(Exception):
    """Base of every error that is shown to a user as it stands."""

    status = 500


class BadRequestError(WorkbenchError):
    """The input can't be used: parameters out of range, an empty or over-long prompt."""

    status = 400


class NotFoundError(WorkbenchError):
    """The model, conversation or worker that was named does not exist."""

    status = 404


class ConflictError(WorkbenchError):
    """The request contradicts the present state, such as unloading a model with work in flight."""

    status = 409


class InsufficientMemoryError(WorkbenchError):
    """No device can hold the model within its budget; the message gives the numbers."""

    status = 507


class UnavailableError(WorkbenchError):
    """Something needed does not answer now: no worker, no hub, a locked database."""

    status = 503


class ModelLoadError(WorkbenchError):
    """The engine could not load the model; the message says why."""

    status = 500


class WorkerDiedError(WorkbenchError):
    """The worker that ran the request died or hung; the pool replaces it."""

    status = 502


class ShuttingDownError(UnavailableError):
    """Workbench is closing and takes no more work."""
