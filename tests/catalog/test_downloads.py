"""Downloads with the real hub client, in real processes, from a hub on localhost."""

import asyncio
import os
import select
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.catalog.conftest import model_files, safetensors
from tests.catalog.hub_server import COMMIT, TOKEN, HubServer, Repository
from workbench.catalog.downloads import DownloadProgress, Downloads
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Model
from workbench.errors import BadRequestError, NotFoundError, UnavailableError

WEIGHTS = safetensors(**{"model.embed_tokens.weight": (1024, 1024)})  # 2 MiB
FILES = model_files() | {"model.safetensors": WEIGHTS}
IGNORED = {
    "pytorch_model.bin": b"x",
    "consolidated.safetensors": b"x",
    "onnx/model.json": b"x",
    ".gitattributes": b"",
}
TOTAL = sum(len(content) for content in FILES.values())
HALF = len(WEIGHTS) // 2


class Watch:
    """What `on_change` told."""

    def __init__(self) -> None:
        self.told: list[DownloadProgress] = []
        self._new = asyncio.Event()

    def __call__(self, progress: DownloadProgress) -> None:
        self.told.append(progress)
        self._new.set()

    async def until(self, reached: Callable[[DownloadProgress], bool]) -> DownloadProgress:
        """Wait for a report, from now on or the latest."""
        while not (self.told and reached(self.told[-1])):
            self._new.clear()
            await self._new.wait()
        return self.told[-1]

    async def end(self) -> DownloadProgress:
        return await self.until(lambda progress: progress.state in ("done", "failed", "cancelled"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
    with HubServer({"org/tiny": Repository(FILES | IGNORED)}) as server:
        yield server


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def downloads(
    catalog: Catalog, hub: HubServer, tmp_path: Path, watch: Watch
) -> AsyncIterator[Downloads]:
    catalog.add_model(
        Model(name="tiny", source_kind="hub", hub_id="org/tiny", licence="mine", context_length=7)
    )
    downloads = Downloads(catalog, tmp_path / "models", hub.endpoint, on_change=watch)
    await downloads.start()
    yield downloads
    await downloads.close()
    assert not download_processes()


def content(model: Model) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(model.folder).iterdir()}


def download_processes(parent: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if "workbench.catalog.download_main" in child.cmdline()]


async def test_a_whole_download(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch, tmp_path: Path
) -> None:
    resume = hub.hold("model.safetensors", HALF)
    await downloads.download("tiny")
    assert downloads.progress("tiny").state == "queued"
    halfway = await watch.until(lambda progress: progress.done_bytes == TOTAL - len(WEIGHTS) + HALF)
    assert halfway.total_bytes == TOTAL
    assert catalog.model("tiny").download_state == "downloading"
    resume.set()
    await watch.end()
    assert watch.told[-1] == downloads.progress("tiny") == DownloadProgress("tiny", "done", TOTAL, TOTAL)
    done = [progress.done_bytes for progress in watch.told]
    assert done == sorted(done)

    model = catalog.model("tiny")
    assert model.folder == str(tmp_path / "models/org--tiny" / COMMIT)
    assert content(model) == FILES
    assert [path.name for path in (tmp_path / "models/org--tiny").iterdir()] == [COMMIT]
    assert (model.download_state, model.commit, model.download_bytes) == ("done", COMMIT, TOTAL)
    assert (model.architecture, model.parameters, model.weight_bytes) == (
        "LlamaForCausalLM",
        1 << 20,
        2 << 20,
    )
    assert (model.context_length, model.licence, model.chat_template) == (128, "apache-2.0", True)
    await downloads.download("tiny")  # nothing left to do
    assert len(hub.transfers("model.safetensors")) == 1


async def test_what_the_files_do_not_say_stays(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    files = FILES | {"config.json": b'{"architectures": ["A"]}', "README.md": b""}
    hub.repositories["org/tiny"] = Repository(files)
    await downloads.download("tiny")
    assert (await watch.end()).state == "done"
    model = catalog.model("tiny")
    assert (model.architecture, model.context_length, model.licence) == ("A", 7, "mine")


async def test_cancel_keeps_the_bytes_and_resume_fetches_the_rest(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    hub.hold("model.safetensors", HALF)
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.done_bytes == TOTAL - len(WEIGHTS) + HALF)
    async with asyncio.timeout(5):
        await downloads.cancel("tiny")
    assert not download_processes()
    assert (watch.told[-1].state, catalog.model("tiny").download_state) == ("cancelled", "cancelled")
    assert catalog.model("tiny").folder == ""
    await downloads.cancel("tiny")  # nothing to cancel

    hub.repositories["org/tiny"].branch = "2" * 40  # the branch moves on, the download stays with its commit
    await downloads.download("tiny")
    assert (await watch.until(lambda progress: progress.state == "done")).done_bytes == TOTAL
    (first, second) = hub.transfers("model.safetensors")
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= HALF
    assert hub.transfers("config.json") == [None]
    assert catalog.model("tiny").commit == COMMIT
    assert content(catalog.model("tiny")) == FILES


async def test_cancel_at_once(catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch) -> None:
    await downloads.download("tiny")
    await asyncio.gather(downloads.cancel("tiny"), downloads.cancel("tiny"))
    assert [progress.state for progress in watch.told] == ["queued", "cancelled"]
    assert catalog.model("tiny").download_state == "cancelled"
    assert hub.seen == []


async def test_a_connection_that_is_cut_goes_on(hub: HubServer, downloads: Downloads, watch: Watch) -> None:
    hub.cut("model.safetensors", HALF)
    hub.cut("model.safetensors", HALF + 1000)
    await downloads.download("tiny")
    assert (await watch.end()).state == "done"
    assert hub.transfers("model.safetensors") == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


async def test_two_downloads_of_a_model_share_the_work(
    hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    resume = hub.hold("model.safetensors", HALF)
    await asyncio.gather(downloads.download("tiny"), downloads.download("tiny"))
    await watch.until(lambda progress: progress.done_bytes >= HALF)
    await downloads.download("tiny")
    assert len(download_processes()) == 1
    resume.set()
    await watch.end()
    assert len(hub.transfers("model.safetensors")) == 1


async def test_downloads_beyond_the_limit_queue(catalog: Catalog, hub: HubServer, tmp_path: Path) -> None:
    watch = Watch()
    downloads = Downloads(catalog, tmp_path / "models", hub.endpoint, at_once=1, on_change=watch)
    for name in ("one", "two"):
        hub.repositories[f"org/{name}"] = Repository(FILES)
        catalog.add_model(Model(name=name, source_kind="hub", hub_id=f"org/{name}"))
    resume = hub.hold("model.safetensors", HALF)
    await downloads.download("one")
    await watch.until(lambda progress: progress.done_bytes >= HALF)
    await downloads.download("two")
    assert downloads.progress("two").state == "queued"
    assert not any("two" in request.path for request in hub.seen)
    resume.set()
    await watch.until(lambda progress: (progress.model, progress.state) == ("two", "done"))
    assert downloads.progress("one").state == "done"
    await downloads.close()


async def test_a_killed_app_takes_its_download_along_and_the_next_resumes(
    hub: HubServer, tmp_path: Path, watch: Watch
) -> None:
    hub.hold("model.safetensors", HALF)
    app = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _APP, tmp_path, hub.endpoint, stdout=asyncio.subprocess.PIPE
    )
    assert await app.stdout.readline() == b"halfway\n"
    (process,) = download_processes(app.pid)
    handle = os.pidfd_open(process.pid)
    process.suspend()  # it can't notice by itself
    app.kill()
    await app.wait()
    ended = select.select([handle], [], [], 10)[0]
    os.close(handle)
    if not ended:
        process.kill()
    assert ended, "the download outlives the app"

    catalog = Catalog.open(tmp_path / "workbench.db")
    assert catalog.model("tiny").download_state == "downloading"
    downloads = Downloads(catalog, tmp_path / "models", hub.endpoint, on_change=watch)
    await downloads.start()
    assert catalog.model("tiny").download_state == "cancelled"
    assert downloads.progress("tiny") == DownloadProgress(
        "tiny", "cancelled", TOTAL - len(WEIGHTS) + HALF, TOTAL
    )
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.state == "done")
    assert hub.transfers("model.safetensors") == [None, f"bytes={HALF}-"]
    await downloads.close()
    catalog.close()


_APP = f"""
import asyncio, sys
from pathlib import Path
from workbench.catalog.downloads import Downloads
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Model

async def main(folder, endpoint):
    catalog = Catalog.open(folder / "workbench.db")
    catalog.add_model(Model(name="tiny", source_kind="hub", hub_id="org/tiny"))
    halfway = asyncio.Event()
    watch = lambda progress: progress.done_bytes == {TOTAL - len(WEIGHTS) + HALF} and halfway.set()
    await Downloads(catalog, folder / "models", endpoint, on_change=watch).download("tiny")
    await halfway.wait()
    print("halfway", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_a_download_process_that_is_killed(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    hub.hold("model.safetensors", HALF)
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.done_bytes >= HALF)
    (process,) = download_processes()
    process.kill()
    assert "ended early" in (await watch.end()).error
    assert "ended early" in catalog.model("tiny").download_error
    await downloads.download("tiny")
    assert downloads.progress("tiny").error == ""
    assert (await watch.until(lambda progress: progress.state == "done")).error == ""
    assert catalog.model("tiny").download_error == ""


async def test_gated_models_need_a_token_that_is_never_told(
    catalog: Catalog,
    hub: HubServer,
    downloads: Downloads,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.repositories["org/tiny"].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_other_token")
    await downloads.download("tiny")
    failed = await watch.end()
    assert failed.error.startswith("org/tiny is gated: accept its terms at http://127.0.0.1")
    assert catalog.model("tiny").download_state == "failed"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    await downloads.download("tiny")
    assert (await watch.until(lambda progress: progress.state == "done")).error == ""
    assert hub.seen[-1].authorization == f"Bearer {TOKEN}"
    told = str(watch.told) + str(capfd.readouterr()) + str(catalog.model("tiny"))
    assert "hf_other_token" not in told
    assert TOKEN not in told


async def test_an_unreachable_hub(catalog: Catalog, tmp_path: Path, watch: Watch) -> None:
    catalog.add_model(Model(name="tiny", source_kind="hub", hub_id="org/tiny"))
    downloads = Downloads(catalog, tmp_path / "models", "http://127.0.0.1:9", on_change=watch)
    await downloads.download("tiny")
    failed = await watch.end()
    assert failed.error.startswith("The hub at http://127.0.0.1:9 can't be reached (ConnectError): check")
    assert "it goes on where it ended." in catalog.model("tiny").download_error
    await downloads.close()


async def test_a_complete_but_unusable_model_is_not_registered(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    hub.repositories["org/tiny"] = Repository({k: v for k, v in FILES.items() if k != "tokenizer.json"})
    await downloads.download("tiny")
    assert "has no tokenizer" in (await watch.end()).error
    model = catalog.model("tiny")
    assert (model.download_state, model.folder, model.architecture) == ("failed", "", "")


async def test_a_database_that_fails_at_the_end(
    catalog: Catalog, downloads: Downloads, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update_model(name: str, **columns: object) -> None:
        if columns.get("download_state") not in ("queued", "downloading"):
            raise UnavailableError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "update_model", update_model)
        await downloads.download("tiny")
        assert (await watch.end()).error == "The disk is full."
    await downloads.download("tiny")
    assert (await watch.until(lambda progress: progress.state == "done")).error == ""
    assert catalog.model("tiny").download_state == "done"


async def test_serving_parameters_that_do_not_fit_the_files(
    catalog: Catalog, downloads: Downloads, watch: Watch
) -> None:
    catalog.update_model("tiny", context_length=0, serve_context_length=4096)
    await downloads.download("tiny")
    assert (
        await watch.end()
    ).error == "serve_context_length is 4096, and must be a whole number from 1 to 128."
    assert catalog.model("tiny").download_state == "failed"
    catalog.update_model("tiny", serve_context_length=None)
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.state == "done")


async def test_files_are_deleted_with_the_model(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch, tmp_path: Path
) -> None:
    await downloads.download("tiny")
    await watch.end()
    await downloads.delete_files(catalog.remove_model("tiny"))
    assert list((tmp_path / "models").iterdir()) == []
    assert downloads.progress("tiny") is None

    catalog.add_model(Model(name="tiny", source_kind="hub", hub_id="org/tiny"))
    hub.hold("model.safetensors", HALF)
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.state == "downloading" and progress.done_bytes >= HALF)
    await downloads.cancel("tiny")
    await downloads.delete_files(catalog.remove_model("tiny"))
    assert list((tmp_path / "models").iterdir()) == []


async def test_files_of_a_local_model_are_never_deleted(
    downloads: Downloads, write_model: Callable[..., Path]
) -> None:
    folder = write_model("mine")
    await downloads.delete_files(Model(name="mine", source_kind="local", folder=str(folder), commit="f"))
    assert (folder / "config.json").is_file()


async def test_a_model_removed_meanwhile_stays_removed(
    catalog: Catalog, hub: HubServer, downloads: Downloads, watch: Watch
) -> None:
    resume = hub.hold("model.safetensors", HALF)
    await downloads.download("tiny")
    await watch.until(lambda progress: progress.done_bytes >= HALF)
    catalog.remove_model("tiny")
    resume.set()
    await watch.end()
    assert catalog.models() == []


async def test_what_can_not_be_downloaded(catalog: Catalog, downloads: Downloads) -> None:
    catalog.add_model(Model(name="mine", source_kind="local", folder="/models/mine"))
    with pytest.raises(BadRequestError, match="mine is a local folder"):
        await downloads.download("mine")
    with pytest.raises(NotFoundError):
        await downloads.download("nobody")


@pytest.mark.parametrize(
    "endpoint", ["ftp://hub", "file:///etc", "hub.example", "https://user:secret@hub", "http://"]
)
def test_endpoints_are_plain_http(catalog: Catalog, tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(BadRequestError, match="must be an http or https URL without credentials") as refusal:
        Downloads(catalog, tmp_path, endpoint)
    assert "secret" not in str(refusal.value)
