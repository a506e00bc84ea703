"""The queries of the Grafana dashboard, and what they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric

DASHBOARD = Path("deploy/grafana/workbench.json")
METRIC = re.compile(r"\b(?:workbench_|vllm:|process_)[a-z0-9_:]+")
SELECTOR = re.compile(r"\b((?:workbench_|vllm:|process_)[a-z0-9_:]+)\{([^}]*)\}")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def queries() -> list[str]:
    """Those of all panels, and of the variables."""
    found = dashboard()
    variables = [
        variable["query"]["query"] for variable in found["templating"]["list"] if variable["type"] == "query"
    ]
    return [*variables, *(target["expr"] for panel in found["panels"] for target in panel.get("targets", ()))]


def names() -> set[str]:
    """Every sample that a query names."""
    return {name for query in queries() for name in METRIC.findall(query)}


def samples_of(family: Metric) -> Iterator[str]:
    """Names that a family's samples have, whether there are any yet or not."""
    return (family.name + suffix for suffix in SUFFIXES.get(family.type, ("",)))


def selected_labels() -> Iterator[tuple[str, set[str]]]:
    """Each selector's sample, and the labels it selects by."""
    for query in queries():
        for name, selector in SELECTOR.findall(query):
            yield name, set(re.findall(r"(\w+)=", selector))
