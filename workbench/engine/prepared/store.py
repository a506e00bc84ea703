"""Prepared weights: a disk cache of models' parameters as a load leaves them, mapped instead of loaded.

A load by way of the model's own files fuses and copies every weight. What it leaves is written once, in the
background, and mapped from then on: 2 GB in milliseconds, in RAM once however many workers map it.

An entry is `KEY.safetensors` with a record `KEY.json` beside it. The key is a digest of the fingerprint:
the contents of the source's files, and everything else that shapes the weights. What is trusted, and why:

1. *The source is the one that was prepared*, if its files' identities are those under which they were
   hashed (`fingerprint.py` says what an identity is worth). Else the entry isn't found.
2. *The entry is the one that was written*, if its file's identity is that of its record. The record is
   written after the file has been read back and its checksum was right; any later change to the file, by
   whatever program, changes its identity. Else the entry isn't found, and `prepare` checks it anew in full.
3. *The entry belongs to this model*, if the fingerprint in its header is, word for word, the one asked for,
   and its tensors have the names, types and shapes that the model expects. Else it is deleted.
4. What no identity shows, such as a failing disk, `verify` finds, which reads the whole file; it is meant to
   run behind the first use of an entry in each life of the app.

Not guarded against: a program that means harm and may write here, and one that overwrites or truncates a
file in place while it is mapped. Files are read-only, and Workbench only ever replaces or deletes them. The
model's own files, which a first load maps for a while, are watched for it (`preparation.py`).

Any doubt means that there is no entry, and a plain load. Several processes may use a folder at once, without
a lock: every file is replaced whole. Deleting anything here is safe at any time, also what is mapped: Linux
keeps a deleted file for as long as a map of it lives. Network file systems may show a change late; keep
the folder and the models on local ones.
"""

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.engine.chunks import GoOn, StoppedError, always, check
from workbench.engine.prepared.fingerprint import (
    ContentDigests,
    FileIdentity,
    Fingerprint,
    Source,
    SourceChangedError,
)
from workbench.engine.prepared.replace import read_record, replacing, sweep, write_record
from workbench.engine.prepared.tensor_file import (
    BadFileError,
    Header,
    UnsupportedTensorError,
    check_contents,
    lay_out,
    map_tensors,
    read_header,
    write_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

SPARE_DISK_BYTES = 1 << 30
"""Left free when an entry is written: the database and downloads may be on the same disk."""
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Entry:
    """Prepared weights that were there, and sound, a moment ago."""

    path: Path
    fingerprint: Fingerprint
    identity: FileIdentity


class PreparedStore:
    """The prepared weights in one folder. `find` and `map` are for the way of a load, the rest is slow."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """A store that keeps its entries below a size.

        Args:
            folder: made when first needed.
            limit_bytes: what all entries together may take; 0 for none at all.
        """
        self._folder = folder
        self.limit_bytes = limit_bytes
        self._digests = ContentDigests(folder / "sources")

    def find(self, source: Source, shape: Mapping[str, str]) -> Entry | None:
        """The entry of a source as it is, or None; about a millisecond.

        Args:
            source: looked at just now.
            shape: what else shapes the weights, as `workbench.engine.prepared.shaping` lists it.
        """
        digests = self._digests.known(source)
        return self._find(Fingerprint.of(digests, shape)) if digests else None

    def _find(self, fingerprint: Fingerprint) -> Entry | None:
        path = self._path(fingerprint)
        recorded = read_record(_record(path)).get("identity")
        try:
            identity = FileIdentity.of(path.stat())
        except OSError:
            return None
        if recorded != list(astuple(identity)):
            _log.info("prepared weights %s aren't as they were recorded", path.name)
            return None
        return Entry(path, fingerprint, identity)

    def map(self, entry: Entry, expected: Mapping[str, "Tensor"]) -> dict[str, "Tensor"] | None:
        """The entry's tensors over a private map of its file; None if it isn't what it should be.

        Args:
            expected: tensors, on any device, that have each name's type and shape.
        """
        try:
            with _opened(entry.path) as fd:
                if FileIdentity.of(os.fstat(fd)) != entry.identity:
                    return None
                header = read_header(fd)
                _check_belongs(header, entry.fingerprint, expected)
                tensors = map_tensors(fd, header)
        except BadFileError as error:
            self._discard(entry.path, error)
            return None
        except OSError as error:
            _log.info("prepared weights %s can't be mapped: %s", entry.path.name, error)
            return None
        self.touch(entry)
        return tensors

    def touch(self, entry: Entry) -> None:
        """Note that an entry is used: those that are not for longest make room first."""
        with contextlib.suppress(OSError):
            os.utime(_record(entry.path))

    def verify(self, entry: Entry, go_on: GoOn = always) -> bool:
        """Read an entry in full and compare its checksum.

        Returns:
            False if it was damaged: it is deleted, and what was mapped from it must not serve on. True if
            it is sound, is gone, or `go_on` gave up before the end.
        """
        try:
            with _opened(entry.path) as fd:
                check_contents(fd, entry.fingerprint.text, go_on)
        except BadFileError as error:
            self._discard(entry.path, error)
            return False
        except (OSError, StoppedError):
            pass
        return True

    def prepare(
        self, source: Source, shape: Mapping[str, str], tensors: Mapping[str, "Tensor"], go_on: GoOn = always
    ) -> bool:
        """Keep a loaded model's weights; for a background thread, seconds for each GB.

        Args:
            source: looked at before the load began.
            shape: as for `find`.
            tensors: contiguous, and changed by nobody meanwhile; they may be maps of the source's files.
            go_on: asked before each chunk of a megabyte; it may block, or give up by saying no.

        Returns:
            Whether there is an entry now, which has just been read in full. If not, the log says why, and
            nothing of it is left.
        """
        try:
            self._prepare(source, shape, tensors, go_on)
        except StoppedError:
            return False
        except (OSError, BadFileError, SourceChangedError, UnsupportedTensorError) as error:
            _log.warning("the weights of %s were not prepared: %s", source.folder.name, error)
            return False
        return True

    def _prepare(
        self, source: Source, shape: Mapping[str, str], tensors: Mapping[str, "Tensor"], go_on: GoOn
    ) -> None:
        fingerprint = Fingerprint.of(self._digests.learn(source, go_on), shape)
        if self._readmit(fingerprint, go_on):
            return
        layout = lay_out(tensors, fingerprint.text)
        self._make_room(layout.total_bytes)
        path = self._path(fingerprint)
        with replacing(path) as fd:
            write_tensors(fd, layout, tensors, go_on)
            source.check()  # the tensors may be maps of its files
        try:
            self._admit(path, fingerprint, go_on)
        except BadFileError:
            _delete(path)
            raise

    def _readmit(self, fingerprint: Fingerprint, go_on: GoOn) -> bool:
        """Check a file that is there already: its folder moved, its writer died, or another was faster."""
        path = self._path(fingerprint)
        try:
            self._admit(path, fingerprint, go_on)
        except FileNotFoundError:
            return False
        except BadFileError as error:
            self._discard(path, error)
            return False
        return True

    def _admit(self, path: Path, fingerprint: Fingerprint, go_on: GoOn) -> None:
        """Record the identity of the file at `path` once it has been read in full and found right."""
        while True:
            with _opened(path) as fd:
                identity = FileIdentity.of(os.fstat(fd))
                while not identity.settled(time.time_ns()):
                    check(go_on)
                    time.sleep(POLL_S)
                check_contents(fd, fingerprint.text, go_on)
            if FileIdentity.of(path.stat()) == identity:  # else another writer has replaced it
                write_record(_record(path), {"identity": list(astuple(identity))})
                return

    def _make_room(self, wanted_bytes: int) -> None:
        """Raise OSError if an entry of this size is not to be kept."""
        if wanted_bytes > self.limit_bytes:
            raise OSError(f"{wanted_bytes} bytes are more than the limit of {self.limit_bytes}")
        self._folder.mkdir(parents=True, exist_ok=True)
        self.evict_to(self.limit_bytes - wanted_bytes)
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < wanted_bytes + SPARE_DISK_BYTES:
            raise OSError(f"{wanted_bytes} bytes would leave too little of the {free_bytes} free on the disk")

    def evict_to(self, limit_bytes: int) -> None:
        """Delete the entries that were not used for longest, until all take `limit_bytes` at most.

        It also deletes what dead writers left. Files under way count, but stay.
        """
        total_bytes = sweep(self._folder)
        entries = []
        for path in self._folder.glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                entries.append((_last_use(path), size, path))
                total_bytes += size
        for _, size, path in sorted(entries):
            if total_bytes <= limit_bytes:
                return
            _log.info("prepared weights %s make room", path.name)
            _delete(path)
            total_bytes -= size

    def _path(self, fingerprint: Fingerprint) -> Path:
        return self._folder / f"{fingerprint.key}.safetensors"

    def _discard(self, path: Path, reason: Exception) -> None:
        _log.warning("prepared weights %s are discarded: %s", path.name, reason)
        _delete(path)


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


def _last_use(path: Path) -> int:
    try:
        return _record(path).stat().st_mtime_ns
    except FileNotFoundError:
        return path.stat().st_mtime_ns


def _delete(path: Path) -> None:
    """The record goes first: a file without one is never mapped."""
    with contextlib.suppress(OSError):
        _record(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _check_belongs(header: Header, fingerprint: Fingerprint, expected: Mapping[str, "Tensor"]) -> None:
    """Raise BadFileError unless the file holds just the tensors that the model expects."""
    if header.fingerprint != fingerprint.text:
        raise BadFileError("it holds other weights")
    if header.tensors.keys() != expected.keys():
        raise BadFileError(f"its tensors are others: {sorted(header.tensors.keys() ^ expected.keys())[:3]}")
    for name, tensor in expected.items():
        place = header.tensors[name]
        if f"torch.{place.dtype}" != str(tensor.dtype) or place.shape != tuple(tensor.shape):
            raise BadFileError(f"{name} is {place.dtype} {place.shape}")
