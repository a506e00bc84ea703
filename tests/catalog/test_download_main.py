"""The download process's own work, run in this process: refusals, retries and a full disk."""

import errno
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.catalog.conftest import model_files
from tests.catalog.hub_server import COMMIT, HubServer, Repository
from workbench.catalog.download_main import MAX_FRUITLESS_ATTEMPTS, download
from workbench.catalog.hub import DownloadReport, DownloadRequest
from workbench.errors import BadRequestError, UnavailableError

FILES = model_files()
WEIGHTS = FILES["model.safetensors"]
TOTAL = sum(len(content) for content in FILES.values())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent")
    with HubServer({"org/tiny": Repository(dict(FILES))}) as server:
        yield server


@pytest.fixture
def request_(hub: HubServer, tmp_path: Path) -> DownloadRequest:
    return DownloadRequest("org/tiny", "", str(tmp_path), hub.endpoint)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts, recorded instead of made."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def run(request: DownloadRequest) -> list[DownloadReport]:
    reports: list[DownloadReport] = []
    download(request, reports.append)
    return reports


def test_the_last_report_says_finished(request_: DownloadRequest, tmp_path: Path) -> None:
    reports = run(request_)
    assert reports[0] == DownloadReport(COMMIT, 0, TOTAL)
    assert reports[-1] == DownloadReport(COMMIT, TOTAL, TOTAL, finished=True)
    assert {path.name for path in (tmp_path / "org--tiny" / COMMIT).iterdir()} == set(FILES)


def test_a_complete_folder_is_not_fetched_again(request_: DownloadRequest, hub: HubServer) -> None:
    run(request_)
    hub.seen.clear()
    assert run(request_) == [DownloadReport(COMMIT, TOTAL, TOTAL, finished=True)]
    assert len(hub.seen) == 1


def test_no_such_model(request_: DownloadRequest) -> None:
    with pytest.raises(BadRequestError, match=r"no model org/none at http://.*, or it is private"):
        run(replace(request_, hub_id="org/none"))


def test_a_token_that_the_hub_refuses(request_: DownloadRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(BadRequestError, match="The hub refuses the token in HF_TOKEN"):
        run(replace(request_, hub_id="org/none"))


def test_no_such_revision(request_: DownloadRequest) -> None:
    with pytest.raises(BadRequestError, match='org/tiny has no revision "v9"'):
        run(replace(request_, revision="v9"))


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_nothing_to_load(request_: DownloadRequest, hub: HubServer, missing: str) -> None:
    del hub.repositories["org/tiny"].files[missing]
    hub.repositories["org/tiny"].files["pytorch_model.bin"] = b"weights"
    with pytest.raises(BadRequestError, match="has no safetensors weights with a config"):
        run(request_)


def test_names_that_leave_the_folder_are_left_out(
    request_: DownloadRequest, hub: HubServer, tmp_path: Path
) -> None:
    hub.repositories["org/tiny"].files |= {"../../escaped.json": b"{}", "/escaped.json": b"{}"}
    run(request_)
    assert {path.name for path in (tmp_path / "org--tiny" / COMMIT).iterdir()} == set(FILES)
    assert not list(tmp_path.parent.rglob("escaped.json"))


def test_offline_mode(request_: DownloadRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="switched off by HF_HUB_OFFLINE"):
        run(request_)


def test_something_else_answers(request_: DownloadRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def sign_in_page(*args: object, **kwargs: object) -> None:
        raise ValueError("Expecting value: line 1 column 1")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", sign_in_page)
    with pytest.raises(UnavailableError, match="does not answer like a Hugging Face hub"):
        run(request_)


def test_a_full_disk_is_noticed_before_the_transfer(
    request_: DownloadRequest, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    with pytest.raises(UnavailableError, match=r"disk is too full for org/tiny: .* are missing and 64\.0MiB"):
        run(request_)
    assert hub.transfers("model.safetensors") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=(64 << 20) + TOTAL))
    assert run(request_)[-1].finished


def test_a_disk_that_fills_up_meanwhile(
    request_: DownloadRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("workbench.catalog.download_main._transfer", full)
    with pytest.raises(UnavailableError, match="The disk is full: free some space"):
        run(request_)
    assert not (tmp_path / "org--tiny" / COMMIT).exists()


def test_a_folder_that_can_not_be_made(request_: DownloadRequest, tmp_path: Path) -> None:
    (tmp_path / "org--tiny").write_text("a file in the way")
    with pytest.raises(UnavailableError, match="The files can't be stored in"):
        run(request_)


def test_a_damaged_file_is_not_kept(request_: DownloadRequest, hub: HubServer, tmp_path: Path) -> None:
    partial = tmp_path / "org--tiny" / f"{COMMIT}.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors.part").write_bytes(b"x" * 10)  # not how the file begins
    with pytest.raises(UnavailableError, match=r"model\.safetensors arrived damaged"):
        run(request_)
    assert not (partial / "model.safetensors.part").exists()
    assert run(request_)[-1].finished
    assert hub.transfers("model.safetensors") == ["bytes=10-", None]


def test_a_hub_without_ranges_sends_the_whole_file(
    request_: DownloadRequest, hub: HubServer, tmp_path: Path
) -> None:
    hub.honours_ranges = False
    hub.cut("model.safetensors", 50)
    assert run(request_)[-1].finished
    assert (tmp_path / "org--tiny" / COMMIT / "model.safetensors").read_bytes() == WEIGHTS


def test_a_busy_hub_is_asked_again_and_then_given_up(
    request_: DownloadRequest, hub: HubServer, pauses: list[float]
) -> None:
    hub.status = 503
    with pytest.raises(UnavailableError, match="answers with status 503: start the download again later"):
        run(request_)
    transfers = len(hub.seen) - 1
    assert MAX_FRUITLESS_ATTEMPTS <= transfers <= MAX_FRUITLESS_ATTEMPTS * len(FILES)
    assert set(pauses) == {2.0, 4.0, 8.0, 16.0}


def test_a_transfer_that_gets_on_is_never_given_up(
    request_: DownloadRequest, hub: HubServer, pauses: list[float]
) -> None:
    cuts = range(10, 10 * (MAX_FRUITLESS_ATTEMPTS + 3), 10)
    for offset in cuts:
        hub.cut("model.safetensors", offset)
    assert run(request_)[-1].finished
    assert hub.transfers("model.safetensors") == [None, *(f"bytes={offset}-" for offset in cuts)]
    assert pauses == []


def test_a_refusal_is_not_repeated(request_: DownloadRequest, hub: HubServer, pauses: list[float]) -> None:
    hub.status = 410
    with pytest.raises(UnavailableError, match="answers with status 410"):
        run(request_)
    assert pauses == []
