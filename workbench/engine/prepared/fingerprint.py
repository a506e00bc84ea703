"""What tells one set of prepared weights from another: the contents of the source, and what shapes them.

Contents are hashed once, in the background. From then on a file is known by its identity: inode, device,
size, and both times. The kernel sets the change time (ctime) at every write and rename, and no program can
set it back, so whoever changes a file changes its identity. Two cases are left. A change right after a look
may fall into the same tick of the file system's clock, so only a file that was settled at the look counts.
And a program that writes through a shared map may change a page for some seconds, until it is written back,
before the times show it: model files aren't written that way.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from workbench.engine.chunks import GoOn, read_chunks
from workbench.engine.prepared.replace import read_record, write_record

FORMAT = "1"
"""Version of the prepared files; a change makes every older one unknown."""

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
WITHOUT_INFLUENCE = frozenset(
    {
        "added_tokens.json",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
)
"""Every other JSON file counts: the model's configuration, its quantization's, the weights' index."""

TICK_NS = 50_000_000
"""Longer than a tick of any Linux kernel's clock for file times, in nanoseconds."""
COARSE_TICK_NS = 2_000_000_000
"""As TICK_NS, for file systems that count whole seconds."""


class SourceChangedError(Exception):
    """The source's files are not, or may not be, those that were loaded."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file's contents, as far as the file system vouches for them. Times in nanoseconds."""

    inode: int
    device: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileIdentity":
        return cls(status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def settled(self, now_ns: int) -> bool:
        """Whether a change after `now_ns`, of `time.time_ns`, is bound to change the identity."""
        tick_ns = TICK_NS if self.ctime_ns % 1_000_000_000 else COARSE_TICK_NS
        return now_ns - self.ctime_ns > tick_ns


@dataclass(frozen=True, slots=True)
class Source:
    """A model's folder at one moment: take it before a load to tell later whether anything changed."""

    folder: Path
    """Resolved."""
    files: Mapping[str, FileIdentity]
    """Of each file that shapes the weights, by its name."""
    settled: bool
    """Whether any later change is bound to show."""

    @classmethod
    def look(cls, folder: Path) -> "Source":
        """Take down the folder as it is now, in some 20 µs a file.

        Every weight file counts, also one that the weights' index leaves out: which ones are read is for
        the engine to choose.

        Raises:
            OSError: no such folder, or no weights in it.
        """
        folder = folder.resolve()
        now_ns = time.time_ns()
        names = sorted(entry.name for entry in os.scandir(folder) if _counts(entry.name))
        if not any(Path(name).suffix in WEIGHTS for name in names):
            raise FileNotFoundError(f"no weights in {folder}")
        files = {name: FileIdentity.of((folder / name).stat()) for name in names}
        return cls(folder, files, all(identity.settled(now_ns) for identity in files.values()))

    def check(self) -> None:
        """Raise SourceChangedError unless the folder is still as it was; OSError if it is gone."""
        if Source.look(self.folder).files != self.files:
            raise SourceChangedError(f"{self.folder} changed since it was loaded")

    @property
    def weights(self) -> list[Path]:
        """The files of weights."""
        return [self.folder / name for name in self.files if Path(name).suffix in WEIGHTS]

    def was_overwritten(self) -> bool:
        """Whether the contents of a file of weights were changed in place, so that a map of it shows it.

        One that was replaced or deleted is still there for whoever has mapped it.
        """
        for path in self.weights:
            before = self.files[path.name]
            with contextlib.suppress(OSError):
                now = FileIdentity.of(path.stat())
                same_file = (now.inode, now.device) == (before.inode, before.device)
                if same_file and (now.size, now.mtime_ns) != (before.size, before.mtime_ns):
                    return True
        return False

    def is_mapped(self) -> bool:
        """Whether this process maps a file of weights, or one of the same number on another file system."""
        inodes = {str(self.files[path.name].inode) for path in self.weights}
        with Path("/proc/self/maps").open() as lines:
            return any(line.split(maxsplit=5)[4] in inodes for line in lines)


def _counts(name: str) -> bool:
    suffix = Path(name).suffix
    return suffix in WEIGHTS or (suffix == ".json" and name not in WITHOUT_INFLUENCE)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that decides the bytes of prepared weights."""

    text: str
    """Canonical JSON of format, contents and shape."""

    @classmethod
    def of(cls, digests: Mapping[str, str], shape: Mapping[str, str]) -> "Fingerprint":
        """The fingerprint of weights from these contents, in this shape.

        Args:
            digests: of each file's contents, by its name.
            shape: what else shapes the weights, as `workbench.engine.prepared.shaping` lists it.
        """
        parts = {"format": FORMAT, "contents": dict(digests), "shape": dict(shape)}
        return cls(json.dumps(parts, sort_keys=True, separators=(",", ":")))

    @property
    def key(self) -> str:
        """64 hexadecimal digits that name the prepared file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class ContentDigests:
    """Digests of sources' contents, remembered by the files' identities: one small JSON a source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def known(self, source: Source) -> dict[str, str] | None:
        """The digests of a source that was hashed as it is; None otherwise."""
        files = read_record(self._record(source)).get("files")
        if not isinstance(files, dict) or files.keys() != source.files.keys():
            return None
        digests = {}
        for name, identity in source.files.items():
            match files[name]:
                case {"identity": list(known), "digest": str(digest)} if known == _as_list(identity):
                    digests[name] = digest
                case _:
                    return None
        return digests

    def learn(self, source: Source, go_on: GoOn) -> dict[str, str]:
        """The digests of a source, hashed now if need be: 0.7 to 2 s for each GB.

        Raises:
            SourceChangedError: the source is no longer as it was when it was looked at, or was then too
                fresh to tell.
            StoppedError: `go_on` said no.
            OSError: a file can't be read, or the digests not be written.
        """
        if not source.settled:
            raise SourceChangedError(f"{source.folder} has only just been written")
        known = self.known(source)
        digests = known or {name: _hash_file(source.folder / name, go_on) for name in source.files}
        source.check()
        if known is None:
            self._remember(source, digests)
        return digests

    def _remember(self, source: Source, digests: Mapping[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        files = {
            name: {"identity": _as_list(identity), "digest": digests[name]}
            for name, identity in source.files.items()
        }
        write_record(self._record(source), {"folder": str(source.folder), "files": files})

    def _record(self, source: Source) -> Path:
        name = hashlib.sha256(os.fsencode(source.folder)).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _as_list(identity: FileIdentity) -> list[int]:
    return list(astuple(identity))


def _hash_file(path: Path, go_on: GoOn) -> str:
    hasher = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for chunk in read_chunks(fd, 0, go_on):
            hasher.update(chunk)
    finally:
        os.close(fd)
    return hasher.hexdigest()
