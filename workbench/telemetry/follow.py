"""Following a log file as it grows, at a bounded cost however much is written."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

FIRST_BYTES = 64 << 10
"""Of the end of the file, read at once."""
STEP_BYTES = 128 << 10
"""Read at a time; what is written faster than that is skipped, and said to be."""
LINE_CHARACTERS = 2000
INTERVAL_S = 0.5

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(slots=True)
class LogTail:
    """Reads what was added to a file since the last look. `read` blocks for one short read."""

    path: Path
    _at: int = -1
    _rest: bytes = b""

    def read(self) -> list[str]:
        """The lines that were completed since the last call; at first, the last ones of the file.

        Raises:
            OSError: the file can't be read.
        """
        size = self.path.stat().st_size
        first = self._at < 0
        if first or size < self._at:  # also where it was written anew
            self._at, self._rest = 0, b""
        start = max(self._at, size - (FIRST_BYTES if first else STEP_BYTES))
        skipped = start - self._at
        with self.path.open("rb") as log:
            log.seek(start)
            data = log.read(size - start)
        self._at = start + len(data)
        if skipped:
            data = data.partition(b"\n")[2]  # from the next whole line on
        *lines, self._rest = (data if skipped else self._rest + data).split(b"\n")
        if len(self._rest) > STEP_BYTES:  # no line at all
            lines, self._rest = [*lines, self._rest], b""
        note = [f"… {skipped:,} bytes are left out …"] if skipped and not first else []
        return note + [_text(line) for line in lines]

    def rest(self) -> list[str]:
        """The last line, where it does not end."""
        return [_text(self._rest)] if self._rest else []


async def follow(path: Path, lives: Callable[[], bool]) -> AsyncIterator[list[str]]:
    """New lines of a log, at first the last ones; an empty list where there are none for a while.

    Ends when `lives` says that nobody writes any more and all is read.

    Raises:
        OSError: the file can't be read.
    """
    tail = LogTail(path)
    while True:
        last = not lives()
        lines = await asyncio.to_thread(tail.read)
        if last:
            yield lines + tail.rest()
            return
        yield lines
        await asyncio.sleep(INTERVAL_S)


def _text(line: bytes) -> str:
    text = _ANSI.sub("", line.decode("utf-8", "replace")).rstrip("\r").rpartition("\r")[2]  # progress bars
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]} …"
