"""Errors as OpenAI's clients read them: one JSON object, with the status that says what to do about it."""

import math
from collections.abc import Collection

from fastapi.responses import JSONResponse

from workbench.errors import BadRequestError, TooManyRequestsError, UnavailableError, WorkbenchError

RETRY_UNAVAILABLE_S = 5.0
"""What lacks now (a worker, a model that loads) is often there after this long; nothing better is known."""
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_CODES = {
    401: "invalid_api_key",
    403: "insufficient_scope",
    413: "body_too_large",
    429: "rate_limit_exceeded",
}


def error_response(
    error: WorkbenchError, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    """An error in OpenAI's format, with `Retry-After` and `WWW-Authenticate` where they are due.

    Args:
        error: what went wrong, as a sentence.
        param: the field of the request that is at fault.
        code: what a program tells errors of one status apart by; the status's own by default.
    """
    return JSONResponse(error_body(error, param=param, code=code), error.status, error_headers(error))


def error_body(
    error: WorkbenchError, *, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    """The object that OpenAI's clients look for, also inside a stream that has begun."""
    return {
        "error": {
            "message": str(error),
            "type": _TYPES.get(error.status, "server_error"),
            "param": param,
            "code": code or _CODES.get(error.status),
        }
    }


def error_headers(error: WorkbenchError) -> dict[str, str]:
    """When to come again (whole seconds, rounded up), and how to sign in."""
    if error.status == 401:
        return {"WWW-Authenticate": 'Bearer realm="Workbench"'}
    if isinstance(error, TooManyRequestsError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, UnavailableError):
        return {"Retry-After": str(math.ceil(RETRY_UNAVAILABLE_S))}
    return {}


def method_refusal(path: str, allowed: Collection[str]) -> JSONResponse:
    """405: the path is there, but not for this method."""
    response = error_response(BadRequestError(f"{path} takes {' and '.join(sorted(allowed))}."))
    response.status_code = 405
    response.headers["Allow"] = ", ".join(sorted(allowed))
    return response
