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


class UnauthorizedError(WorkbenchError):
    """No key came with the request, or one that is unknown, revoked or malformed."""

    status = 401


class ForbiddenError(WorkbenchError):
    """The key is valid and has not the scope that this needs."""

    status = 403


class NotFoundError(WorkbenchError):
    """The model, conversation or worker that was named does not exist."""

    status = 404


class ConflictError(WorkbenchError):
    """The request contradicts the present state, such as unloading a model with work in flight."""

    status = 409


class TooLargeError(WorkbenchError):
    """The body of the request is longer than `max_body_bytes`."""

    status = 413


class TooManyRequestsError(WorkbenchError):
    """A limit of the key, or of this Workbench as a whole, is reached.

    Args:
        message: which limit.
        retry_after_s: seconds after which the same request can be let in.
    """

    status = 429

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


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
