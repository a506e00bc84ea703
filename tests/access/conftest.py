"""An Access over a real database, at a time that the test chooses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench.access.access import Access
from workbench.catalog.store import Catalog
from workbench.settings import Settings


class Clock:
    """Seconds since some time in 2024, until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_728_000_000.0  # a midnight of UTC

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "workbench.db"


@pytest.fixture
def catalog(database: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(database)
    yield catalog
    catalog.close()


@pytest.fixture
def make_access(catalog: Catalog, clock: Clock) -> Callable[..., Access]:
    def make(**settings) -> Access:
        settings = {"require_keys": "always"} | settings
        return Access(catalog.keys, Settings(_env_file=None, **settings), clock=clock, wall=clock)

    return make


@pytest.fixture
def access(make_access) -> Access:
    return make_access()
