"""One download, in a process of its own: `python -m workbench.catalog.download_main`.

Reads a `DownloadRequest` from stdin and writes `DownloadReport`s to stdout, as lines of JSON. It dies with
its parent and may be killed at any time: the next one goes on from the bytes on disk. huggingface_hub
names, authorises and locates the files; the transfer is our own because since version 1.31 its
`snapshot_download` throws partial files away (huggingface_hub issue 4196).
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Self

import httpx2
from huggingface_hub import HfApi, get_session, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status
from pydantic import ByteSize

from workbench.catalog.hub import DownloadReport, DownloadRequest, partial_folder, snapshot_folder
from workbench.errors import BadRequestError, UnavailableError, WorkbenchError

# Files of the top folder only: subfolders hold other formats, "consolidated" files the same weights again.
WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md", "LICENSE*")
UNWANTED = ("consolidated*", ".*", "*/*")
PARALLEL_FILES = 4
REPORT_INTERVAL_S = 0.2
TIMEOUT_S = 20.0
MAX_FRUITLESS_ATTEMPTS = 5
PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
DISK_RESERVE_BYTES = 64 << 20

Emit = Callable[[DownloadReport], None]


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    name: str
    size: int
    sha256: str
    """Of large files; "" for those that are kept in git itself."""
    git_sha1: str


class _Progress:
    """Bytes of all files together, reported while they change; shared by the transfer threads."""

    def __init__(self, report: DownloadReport, emit: Emit) -> None:
        self.abandoned = threading.Event()
        """Set when a file failed, so that the others stop too."""
        self._report = report
        self._emit = emit
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._reporter = threading.Thread(target=self._keep_reporting)

    def __enter__(self) -> Self:
        self._reporter.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._reporter.join()

    def add(self, count: int) -> None:
        with self._mutex:
            self._report = replace(self._report, done_bytes=self._report.done_bytes + count)

    def _keep_reporting(self) -> None:
        emitted = None
        while not self._closed.wait(REPORT_INTERVAL_S):
            if self._report is not emitted:
                emitted = self._report
                self._emit(emitted)


def main() -> None:
    """Carry out the download asked for on stdin; a refusal is the last report, with its sentence."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    request = DownloadRequest(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        download(request, _print_report)
    except WorkbenchError as error:
        _print_report(DownloadReport(error=str(error)))


def download(request: DownloadRequest, emit: Emit) -> None:
    """Complete the files of a model under `request.models_dir`; the last report says `finished`.

    Raises:
        BadRequestError: there is no such model or revision, it is gated, or has nothing vLLM can load.
        UnavailableError: the hub can't be reached, a file arrived damaged, or the disk is full.
    """
    api = HfApi(endpoint=request.endpoint)
    try:
        commit, files = _list_files(api, request)
        snapshot = snapshot_folder(Path(request.models_dir), request.hub_id, commit)
        total = sum(file.size for file in files)
        if not snapshot.is_dir():
            _complete(snapshot, files, api, request.hub_id, DownloadReport(commit, 0, total), emit)
    except (httpx2.HTTPError, OSError) as error:
        raise _explain(error, request, api.endpoint) from error
    emit(DownloadReport(commit, total, total, finished=True))


def _list_files(api: HfApi, request: DownloadRequest) -> tuple[str, list[_RemoteFile]]:
    """The commit that the revision stands for, and the files vLLM needs."""
    try:
        info = api.model_info(
            request.hub_id, revision=request.revision or None, files_metadata=True, timeout=TIMEOUT_S
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, HfHubHTTPError):
            raise
        raise UnavailableError(
            f"{api.endpoint} does not answer like a Hugging Face hub: check the network's sign-in page, "
            "proxy and WORKBENCH_HUB_ENDPOINT."
        ) from error
    files = [
        _RemoteFile(
            entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else "", entry.blob_id or ""
        )
        for entry in info.siblings or ()
        if _matches(entry.rfilename, WANTED) and not _matches(entry.rfilename, UNWANTED)
    ]
    names = [file.name for file in files]
    if info.sha is None or "config.json" not in names or not any(fnmatch(n, "*.safetensors") for n in names):
        raise BadRequestError(
            f"{request.hub_id} has no safetensors weights with a config.json: choose a model that has."
        )
    return info.sha, files


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _complete(
    snapshot: Path, files: list[_RemoteFile], api: HfApi, hub_id: str, report: DownloadReport, emit: Emit
) -> None:
    """Fetch what is missing beside the final folder, then give the whole folder its name at once."""
    partial = partial_folder(snapshot)
    partial.mkdir(parents=True, exist_ok=True)
    report = replace(report, done_bytes=sum(path.stat().st_size for path in partial.iterdir()))
    emit(report)
    missing = report.total_bytes - report.done_bytes
    free = shutil.disk_usage(partial).free
    if missing + DISK_RESERVE_BYTES > free:
        raise UnavailableError(
            f"The disk is too full for {hub_id}: {_size(missing)} are missing and {_size(free)} are free, of "
            f"which {_size(DISK_RESERVE_BYTES)} are kept: free some space, then start the download again."
        )
    with _Progress(report, emit) as progress, ThreadPoolExecutor(PARALLEL_FILES) as threads:
        transfers = [
            threads.submit(
                _fetch,
                file,
                hf_hub_url(hub_id, file.name, revision=report.commit, endpoint=api.endpoint),
                partial,
                progress,
            )
            for file in files
        ]
    for transfer in transfers:
        transfer.result()
    partial.rename(snapshot)


def _fetch(file: _RemoteFile, url: str, folder: Path, progress: _Progress) -> None:
    """Complete one file, going on where an earlier attempt ended; it has its name once it is verified."""
    if (folder / file.name).is_file() or progress.abandoned.is_set():
        return
    part = folder / f"{file.name}.part"
    part.touch()
    try:
        fruitless = 0
        while (have := part.stat().st_size) < file.size:
            if fruitless:
                time.sleep(2.0**fruitless)
            fruitless += 1
            try:
                _transfer(url, part, have, progress)
            except (httpx2.TransportError, HfHubHTTPError) as error:
                passing = isinstance(error, httpx2.TransportError) or (
                    error.response.status_code in PASSING_STATUSES
                )
                if not passing or fruitless >= MAX_FRUITLESS_ATTEMPTS:
                    raise
            if progress.abandoned.is_set():
                return
            if part.stat().st_size > have:
                fruitless = 0
        if not _is_intact(part, file):
            part.unlink()
            raise UnavailableError(f"{file.name} arrived damaged: start the download again.")
        part.rename(folder / file.name)
    except BaseException:
        progress.abandoned.set()
        raise


def _transfer(url: str, part: Path, have: int, progress: _Progress) -> None:
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
        hf_raise_for_status(response)
        if have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
            progress.add(-have)
            have = 0
        with part.open("r+b") as file:
            file.truncate(have)
            file.seek(have)
            for chunk in response.iter_bytes():
                file.write(chunk)
                file.flush()  # what is reported survives a kill
                progress.add(len(chunk))
                if progress.abandoned.is_set():
                    return


def _is_intact(path: Path, file: _RemoteFile) -> bool:
    with path.open("rb") as content:
        if file.sha256:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
        blob = content.read()
    return hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest() == file.git_sha1


def _explain(error: httpx2.HTTPError | OSError, request: DownloadRequest, endpoint: str) -> WorkbenchError:
    """The sentence for an error of the hub, the network or the disk."""
    hub_id = request.hub_id
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    no_such_model = BadRequestError(
        f"There is no model {hub_id} at {endpoint}, or it is private: check the name, "
        "and set HF_TOKEN for a private one."
    )
    match error:
        case OfflineModeIsEnabled():
            return UnavailableError(
                "Downloads are switched off by HF_HUB_OFFLINE: unset it, then start again."
            )
        case GatedRepoError():  # before its base, RepositoryNotFoundError
            return BadRequestError(
                f"{hub_id} is gated: accept its terms at {endpoint}/{hub_id}, set HF_TOKEN to a token of "
                "that account, then start Workbench and the download again."
            )
        case RepositoryNotFoundError():
            return no_such_model
        case RevisionNotFoundError():
            return BadRequestError(
                f'{hub_id} has no revision "{request.revision}": give one of its branches, tags or commits.'
            )
        case HfHubHTTPError() if status == 401:  # to strangers, the hub says so of what it does not have
            refused = BadRequestError("The hub refuses the token in HF_TOKEN: set a valid one, or none.")
            return refused if get_token() else no_such_model
        case HfHubHTTPError():
            return UnavailableError(
                f"The hub at {endpoint} answers with status {status}: "
                "start the download again later, it goes on where it ended."
            )
        case httpx2.HTTPError():
            return UnavailableError(
                f"The hub at {endpoint} can't be reached ({type(error).__name__}): check the network, then "
                "start the download again, it goes on where it ended."
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return UnavailableError("The disk is full: free some space, then start the download again.")
    return UnavailableError(f"The files can't be stored in {request.models_dir}: {error.strerror or error}.")


def _size(count: int) -> str:
    return ByteSize(count).human_readable()


def _print_report(report: DownloadReport) -> None:
    print(json.dumps(asdict(report)), flush=True)


def _exit_with_parent() -> None:
    """Wait for the end of stdin, which comes when the parent closes it or dies."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
