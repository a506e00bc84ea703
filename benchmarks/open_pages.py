"""Pages that are open in browsers, as the server sees them, from a process of its own.

    python -m benchmarks.open_pages URL PAGE [PAGE …]

Each page keeps its event stream open. At the end of standard input the process prints a JSON object with the
frames that came, their bytes and those of the largest one, and ends. Browsers draw on other machines, and
what reads here takes its time from the very cores that are measured; so nothing is drawn or parsed, and one
thread takes what has come to all the sockets a few times a second, and counts. Its own processor time is
among the figures.
"""

import asyncio
import contextlib
import json
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
READ_INTERVAL_S = 0.25
CHUNK_BYTES = 1 << 20
FRAME = b"event: frame\ndata: "
END = b"\n\n"


@dataclass(slots=True)
class Seen:
    """What open pages were sent."""

    frames: int = 0
    frame_bytes: int = 0
    largest_frame_bytes: int = 0
    reader_ms_per_s: float = 0.0
    """Processor time of the reading process."""


@contextlib.asynccontextmanager
async def open_pages(url: str, pages: Sequence[str]) -> AsyncIterator[Seen]:
    """Have pages open within the context; what they were sent is known after it."""
    seen = Seen()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.open_pages", url, *pages),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    await process.stdout.readline()  # every page has its first frame
    try:
        yield seen
    finally:
        out, _ = await process.communicate(b"")  # the end of its input
    for name, value in json.loads(out).items():
        setattr(seen, name, value)


class OpenPage:
    """The event stream of one page, and how much came over it."""

    def __init__(self, url: str, page: str) -> None:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        self._socket = socket.create_connection((host or "", port or 80))
        # In HTTP/1.0 the body ends with the connection, and comes without marks of chunks.
        self._socket.sendall(f"GET /events?page={page} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        self._socket.setblocking(False)
        self._left = b""
        """The beginning of an event whose end has not come yet."""
        self.frames = self.frame_bytes = self.largest_frame_bytes = 0

    def read(self) -> None:
        """Take what has come."""
        with contextlib.suppress(BlockingIOError):
            while chunk := self._socket.recv(CHUNK_BYTES):
                self.take(chunk)

    def take(self, chunk: bytes) -> None:
        """Count the frames that end in a piece of the stream."""
        *events, self._left = (self._left + chunk).split(END)
        for event in events:
            if FRAME in event:  # after the head of the response, in the first one
                size = len(event) - event.index(FRAME) - len(FRAME)
                self.frames += 1
                self.frame_bytes += size
                self.largest_frame_bytes = max(self.largest_frame_bytes, size)


def _main(url: str, names: Sequence[str]) -> None:
    pages = [OpenPage(url, name) for name in names]
    while not all(page.frames for page in pages):
        time.sleep(0.01)
        for page in pages:
            page.read()
    print("open", flush=True)
    began, began_cpu = time.perf_counter(), time.process_time()
    while not select.select([sys.stdin], [], [], READ_INTERVAL_S)[0]:
        for page in pages:
            page.read()
    busy_ms = 1000 * (time.process_time() - began_cpu)
    seen = Seen(
        sum(page.frames for page in pages),
        sum(page.frame_bytes for page in pages),
        max(page.largest_frame_bytes for page in pages),
        round(busy_ms / (time.perf_counter() - began), 2),
    )
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
