"""Pages that are open in browsers, as the server sees them, from a process of its own.

    python -m benchmarks.open_pages URL PAGE [PAGE …]

Each page keeps its event stream open and reads what comes. At the end of standard input the process prints a
JSON object with the frames that came and the bytes of the largest one, and ends. Browsers draw on other
machines, so nothing is drawn here.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Seen:
    """What open pages were sent."""

    frames: int = 0
    largest_frame_bytes: int = 0


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


async def _read(client: httpx.AsyncClient, url: str, seen: Seen, first: asyncio.Event) -> None:
    async with client.stream("GET", url, timeout=None) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                seen.frames += 1
                seen.largest_frame_bytes = max(seen.largest_frame_bytes, len(line.encode()) - len("data: "))
                first.set()


async def _main(url: str, pages: Sequence[str]) -> None:
    seen, firsts = Seen(), [asyncio.Event() for _ in pages]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client:
        readers = [
            asyncio.create_task(_read(client, f"{url}/events?page={page}", seen, first))
            for page, first in zip(pages, firsts, strict=True)
        ]
        for first in firsts:
            await first.wait()
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    print(json.dumps({"frames": seen.frames, "largest_frame_bytes": seen.largest_frame_bytes}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2:]))
