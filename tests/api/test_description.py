"""One description of all that clients may call."""

import pytest

from workbench.api.openai import PATHS

pytestmark = pytest.mark.engine


def references(value) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*map(references, value.values())) if value else found
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


@pytest.fixture(scope="module")
def description(http) -> dict:
    return http.get("/openapi.json").json()


def test_what_models_answer_and_what_workbench_answers_is_in_it(description):
    assert set(PATHS) <= set(description["paths"])
    assert {"/v1/models", "/admin/variants", "/admin/status", "/health"} <= set(description["paths"])
    assert not any(path.startswith("/gradio_api") for path in description["paths"])


def test_every_reference_leads_somewhere(description):
    schemas = description["components"]["schemas"]
    missing = {ref for ref in references(description) if ref.rpartition("/")[2] not in schemas}
    assert not missing


def test_each_operation_says_what_it_is_and_how_it_fails(description):
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), (method, path)
            assert any(status.startswith("4") for status in operation["responses"]), (method, path)


def test_a_request_says_how_it_may_be_told_of_a_switch(description):
    operation = description["paths"]["/v1/chat/completions"]["post"]
    assert "X-Workbench-Progress" in [parameter["name"] for parameter in operation["parameters"]]
