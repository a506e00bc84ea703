"""A small Hugging Face hub on localhost: model info, file transfer with ranges, refusals and accidents."""

import hashlib
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

COMMIT = "1" * 40
TOKEN = "hf_secret_token"


@dataclass
class Repository:
    files: dict[str, bytes]
    branch: str = COMMIT
    """The commit "main" stands for; COMMIT itself can always be asked for."""
    gated: bool = False


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    path: str
    range: str | None
    authorization: str | None


@dataclass
class Accident:
    """Happens once to the transfer of a file, when it reaches this offset."""

    name: str
    offset: int
    resume: threading.Event | None
    """Wait for it, then go on; None to cut the connection."""


@dataclass
class HubServer:
    """Set its fields while it runs; use it as a context manager."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    honours_ranges: bool = True
    status: int = 200
    """Of file transfers; anything else refuses them."""
    seen: list[Seen] = field(default_factory=list)
    accidents: list[Accident] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            server_state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for accident in self.accidents:
            if accident.resume is not None:
                accident.resume.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def hold(self, name: str, offset: int) -> threading.Event:
        """Stop the next transfer of a file at `offset` until the returned event is set."""
        resume = threading.Event()
        self.accidents.append(Accident(name, offset, resume))
        return resume

    def cut(self, name: str, offset: int) -> None:
        """Close the connection of the next transfer of a file at `offset`."""
        self.accidents.append(Accident(name, offset, None))

    def transfers(self, name: str) -> list[str | None]:
        """The Range headers of all requests for a file."""
        return [request.range for request in self.seen if request.path.endswith("/" + name)]


class _Handler(BaseHTTPRequestHandler):
    server_state: HubServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        hub = self.server_state
        hub.seen.append(Seen(path, self.headers.get("Range"), self.headers.get("Authorization")))
        match path.strip("/").split("/"):
            case ["api", "models", organisation, name, *revision]:
                self._info(f"{organisation}/{name}", revision[1] if revision else "main")
            case [organisation, name, "resolve", _commit, file]:
                self._file(hub.repositories[f"{organisation}/{name}"], file)
            case _:
                self._refuse(404, "EntryNotFound")

    def _info(self, hub_id: str, revision: str) -> None:
        repository = self.server_state.repositories.get(hub_id)
        if repository is None:
            self._refuse(401, None)
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            siblings = [_sibling(name, content) for name, content in repository.files.items()]
            body = json.dumps(
                {
                    "id": hub_id,
                    "sha": repository.branch if revision == "main" else COMMIT,
                    "siblings": siblings,
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _file(self, repository: Repository, name: str) -> None:
        hub = self.server_state
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(403, "GatedRepo")
        elif hub.status != 200:
            self._refuse(hub.status, None)
        else:
            self._content(name, repository.files[name])

    def _content(self, name: str, content: bytes) -> None:
        start = 0
        if (wanted := self.headers.get("Range")) and self.server_state.honours_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        with suppress(ConnectionError):  # the client may be gone
            self._send(content, start, name)

    def _send(self, content: bytes, start: int, name: str) -> None:
        for accident in self.server_state.accidents[:]:
            if accident.name == name and start < accident.offset:
                self.server_state.accidents.remove(accident)
                self.wfile.write(content[start : accident.offset])
                start = accident.offset
                if accident.resume is None:
                    return
                accident.resume.wait()
        self.wfile.write(content[start:])

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    """A file in model info with `blobs=true`; large ones are in LFS there, here the weights."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
    return entry
