"""The Grafana dashboard: as Grafana takes it, and about nothing that is not exported."""

from itertools import combinations

import httpx
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from tests.grafana import dashboard, names, queries, samples_of
from tests.ui.fake_workbench import FakeWorkbench
from workbench.api.metrics import MetricsPage

GRID_COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_panels_are_whole_and_side_by_side():
    found = dashboard()
    assert found["schemaVersion"] >= 39
    assert found["uid"] == "workbench"
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids) > 30
    taken = [panel["gridPos"] for panel in found["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= GRID_COLUMNS for place in taken)
    for one, other in combinations(taken, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    for panel in found["panels"]:
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"] == DATASOURCE
            assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references) > 0


def test_the_data_source_is_a_choice():
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["model"]["datasource"] == DATASOURCE


def test_brackets_of_queries_match():
    for query in queries():
        for opening, closing in ("()", "[]", "{}"):
            assert query.count(opening) == query.count(closing), query


async def test_what_queries_name_of_ours_is_exported():
    """Of vLLM's, see the tests of the engine."""
    app = FastAPI()
    app.include_router(MetricsPage(FakeWorkbench()).router())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        text = (await client.get("/metrics")).text
    exported = {name for family in text_string_to_metric_families(text) for name in samples_of(family)}
    assert {name for name in names() if not name.startswith("vllm:")} <= exported
