"""Shared by all tests: where things are, and an order that suits pytest-asyncio, Playwright and two cores."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "data" / "demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests last: Playwright's session leaves an event loop running that others trip over.

    Under pytest-xdist, one process of the tests has the real engine, one at a time, and another all else.
    """
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
    for item in items:
        group = "engine" if item.get_closest_marker("engine") else "others"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def demo() -> Path:
    return DEMO
