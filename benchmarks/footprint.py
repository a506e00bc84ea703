"""What processes hold: resident memory, threads, descriptors and shared memory."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SETTLE_TIMEOUT_S = 30.0
SETTLE_INTERVAL_S = 1.0
RSS_STEADY_BYTES = 1 << 20
"""Two readings whose resident memory differs by less count as equal."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What some processes hold together."""

    rss_bytes: int
    """With the maps of files, which are the kernel's page cache."""
    private_bytes: int
    """Without what is shared with others, or would be if others mapped it."""
    threads: int
    descriptors: int
    shared_memory: frozenset[str]
    """Names of segments; see `shared_memory`."""

    def steady(self, earlier: "Footprint") -> bool:
        """Whether nothing has changed since the earlier reading but a little memory."""
        return (
            abs(self.rss_bytes - earlier.rss_bytes) < RSS_STEADY_BYTES
            and self.threads == earlier.threads
            and self.descriptors == earlier.descriptors
            and self.shared_memory == earlier.shared_memory
        )


def footprint(pids: Sequence[int]) -> Footprint:
    """What the processes hold now.

    Raises:
        psutil.NoSuchProcess: one of them is gone.
    """
    processes = [psutil.Process(pid) for pid in pids]
    memories = [process.memory_info() for process in processes]
    return Footprint(
        rss_bytes=sum(memory.rss for memory in memories),
        private_bytes=sum(memory.rss - memory.shared for memory in memories),
        threads=sum(process.num_threads() for process in processes),
        descriptors=sum(process.num_fds() for process in processes),
        shared_memory=shared_memory(pids),
    )


def shared_memory(pids: Iterable[int]) -> frozenset[str]:
    """Shared memory on this machine, and what of it that has no name any more the processes still map.

    Named POSIX and System V segments are counted whoever made them: one that is left behind belongs to
    nobody. So the machine should be doing nothing else.
    """
    named = {str(path) for path in Path("/dev/shm").iterdir()}
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    named |= {f"System V segment {line.split()[1]}" for line in table}
    for pid in pids:
        named |= set(_unnamed(Path(f"/proc/{pid}/maps").read_text().splitlines()))
    return frozenset(named)


def _unnamed(mappings: Iterable[str]) -> Iterable[str]:
    """Shared memory without a name among lines of /proc/PID/maps, told apart by inode."""
    for line in mappings:
        _, _, _, device, inode, *name = line.split(maxsplit=5)
        if name and (
            name[0].startswith("/memfd:")
            or (name[0].startswith("/dev/shm/") and name[0].endswith("(deleted)"))
        ):
            yield f"{name[0]} {device} {inode}"


async def settled(read: Callable[[], Footprint]) -> Footprint:
    """The first of two readings in a row that are equal, or the last one before the deadline.

    What processes give back some moments after they have ended their work is given back by then.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    earlier = read()
    while time.monotonic() < deadline:
        await asyncio.sleep(SETTLE_INTERVAL_S)
        now = read()
        if now.steady(earlier):
            return now
        earlier = now
    return earlier
