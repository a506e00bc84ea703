import json

import pytest

from workbench import errors
from workbench.api.errors import error_response


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "headers"),
    [
        (errors.BadRequestError("x"), 400, "invalid_request_error", None, {}),
        (
            errors.UnauthorizedError("x"),
            401,
            "authentication_error",
            "invalid_api_key",
            {"www-authenticate": 'Bearer realm="Workbench"'},
        ),
        (errors.ForbiddenError("x"), 403, "permission_error", "insufficient_scope", {}),
        (errors.NotFoundError("x"), 404, "not_found_error", None, {}),
        (errors.TooLargeError("x"), 413, "invalid_request_error", "body_too_large", {}),
        (
            errors.TooManyRequestsError("x", 1.2),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            {"retry-after": "2"},
        ),
        (errors.UnavailableError("x"), 503, "service_unavailable_error", None, {"retry-after": "5"}),
        (errors.WorkerDiedError("x"), 502, "server_error", None, {}),
    ],
)
def test_an_error_has_its_status_type_code_and_headers(error, status, kind, code, headers):
    response = error_response(error)
    assert response.status_code == status
    assert json.loads(response.body)["error"] == {"message": "x", "type": kind, "param": None, "code": code}
    extra = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    assert extra == headers


def test_a_retry_is_never_promised_at_once():
    assert error_response(errors.TooManyRequestsError("x", 0.0)).headers["retry-after"] == "1"


def test_the_field_at_fault_and_a_code_of_its_own_are_named():
    body = json.loads(error_response(errors.NotFoundError("x"), param="model", code="model_not_found").body)
    assert (body["error"]["param"], body["error"]["code"]) == ("model", "model_not_found")
