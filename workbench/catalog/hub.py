"""What both sides of a download know: its request and reports, names on the hub, folders on disk."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workbench.errors import BadRequestError

_HUB_ID = re.compile(r"\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """Told to the download process, as one line of JSON on its stdin."""

    hub_id: str
    revision: str
    """Branch, tag or commit; "" for the hub's default branch."""
    models_dir: str
    endpoint: str | None
    """URL of the hub; None for the public one."""


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """Told by the download process, as lines of JSON on its stdout; each is the whole picture."""

    commit: str = ""
    done_bytes: int = 0
    """Bytes on disk, those of earlier attempts included."""
    total_bytes: int = 0
    finished: bool = False
    error: str = ""
    """A sentence for people; the process ends after it."""


def check_hub_source(hub_id: str, revision: str) -> None:
    """Raise BadRequestError unless both are well formed; what exists, only the hub knows."""
    if not _HUB_ID.fullmatch(hub_id) or "--" in hub_id or ".." in hub_id or hub_id.endswith(".git"):
        raise BadRequestError(f'"{hub_id}" is no hub id: write it as organisation/name.')
    if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise BadRequestError(f'"{revision}" is no revision: give a branch, a tag or a commit.')


def check_endpoint(endpoint: str | None) -> None:
    """Raise BadRequestError unless the hub's URL is plain http or https."""
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise BadRequestError(
            "The hub endpoint must be an http or https URL without credentials: "
            "set WORKBENCH_HUB_ENDPOINT to one, or leave it out for the public hub."
        )


def snapshot_folder(models_dir: Path, hub_id: str, commit: str) -> Path:
    """Folder of one commit of one model; it exists only once all its files are complete."""
    return models_dir / hub_id.replace("/", "--") / commit


def partial_folder(snapshot: Path) -> Path:
    """Where the files of `snapshot` gather until they are complete."""
    return snapshot.with_name(f"{snapshot.name}.partial")
