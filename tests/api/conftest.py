"""One application for the tests of the API, whose budget holds two of the three demo models at a time."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.api.made_models import make_embedder, make_thinker
from tests.app_process import AppProcess, running_app

TWO_FIT = "170MiB"


@pytest.fixture(scope="session")
def api_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    """The running application; a test leaves nothing in flight."""
    data: Path = tmp_path_factory.mktemp("api")
    roots = tmp_path_factory.mktemp("models")
    make_thinker(roots / "thinker")
    make_embedder(roots / "embedder")
    flags = ("--memory-budget", TWO_FIT, "--max-workers", "3", "--model-roots", str(roots))
    with running_app(data, *flags) as app:
        app.wait_for("worker is warm", 120)
        app.wait_for("engine is imported", 120)
        for name in ("thinker", "embedder"):
            body = {"folder": str(roots / name), "name": name}
            httpx.post(f"{app.url}/admin/models/local", json=body, timeout=60).raise_for_status()
        yield app


@pytest.fixture(scope="session")
def client(api_app: AppProcess) -> openai.OpenAI:
    """OpenAI's own client, as its documentation shows it."""
    return openai.OpenAI(base_url=f"{api_app.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def async_client(api_app: AppProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api_app.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="session")
def http(api_app: AppProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api_app.url, timeout=120) as http:
        yield http
