"""One real application for all tests that don't stop it, and the browser of the tests over the fake."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app_process import AppProcess, running_app
from tests.ui.conftest import browser_type_launch_args, context, page

__all__ = ["browser_type_launch_args", "context", "page"]

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """The running application with the demo models. A test leaves no worker dead."""
    data: Path = tmp_path_factory.mktemp("application")
    with running_app(data) as app:
        httpx.get(app.url, timeout=60)
        app.wait_for("worker is warm")
        yield app
