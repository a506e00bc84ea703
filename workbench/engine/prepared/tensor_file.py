"""The file of prepared weights: safetensors, laid out to be mapped, with a fingerprint and a checksum.

The header ends on a page, every tensor begins on a cache line, and entries named `__padding__…` fill the
gaps, since the format allows none. The header's metadata holds the fingerprint in full and the SHA-256 of
header and data, taken with zeroes in the digest's place. Format: the `safetensors` repository's README.
"""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.engine.chunks import CHUNK_BYTES, GoOn, check, read_chunks, write_all

if TYPE_CHECKING:
    from torch import Tensor

ALIGNMENT = 64
PADDING = "__padding__"
NO_DIGEST = "0" * 64
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
SYNC_BYTES = 64 << 20
"""Written between two syncs: neither the last one nor another program's waits for gigabytes."""

DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""The format's names of torch's types."""


class UnsupportedTensorError(Exception):
    """A tensor that the file can't give back exactly as it is."""


class BadFileError(Exception):
    """The file is not what it should be; the message says in what."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor in the file."""

    dtype: str
    """torch's name, without "torch."."""
    shape: tuple[int, ...]
    start: int
    """Byte in the file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    fingerprint: str
    digest: str
    raw: bytes
    """All bytes before the data."""
    tensors: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Layout:
    """A file to be written."""

    raw: bytes
    """The header, without a digest yet."""
    starts: Mapping[str, int]
    """Byte in the file that each tensor starts at, in ascending order."""
    total_bytes: int


def lay_out(tensors: Mapping[str, "Tensor"], fingerprint: str) -> Layout:
    """Where each tensor goes.

    Raises:
        UnsupportedTensorError: strides or type of a tensor would be lost.
    """
    names = {f"torch.{ours}": theirs for theirs, ours in DTYPES.items()}
    table: dict[str, Any] = {"__metadata__": {"digest": NO_DIGEST, "fingerprint": fingerprint}}
    starts: dict[str, int] = {}
    end = 0
    for name, tensor in tensors.items():
        dtype = names.get(str(tensor.dtype))
        if dtype is None or not tensor.is_contiguous() or str(tensor.layout) != "torch.strided":
            raise UnsupportedTensorError(f"{name} is not contiguous, or of a type of its own")
        if gap := -end % ALIGNMENT:
            padding = {"dtype": "U8", "shape": [gap], "data_offsets": [end, end + gap]}
            table[f"{PADDING}{len(starts)}"] = padding
        starts[name] = end + gap
        end = starts[name] + tensor.nbytes
        table[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [starts[name], end],
        }
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % mmap.PAGESIZE)
    raw = len(text).to_bytes(8, "little") + text
    return Layout(raw, {name: len(raw) + start for name, start in starts.items()}, len(raw) + end)


def write_tensors(fd: int, layout: Layout, tensors: Mapping[str, "Tensor"], go_on: GoOn) -> None:
    """Write a file into an empty one, straight from the tensors' memory; the header comes last.

    Neither hashing nor writing holds the interpreter's lock. Tensors on a device are copied one by one.

    Raises:
        StoppedError: `go_on` said no.
        OSError: disk full and the like.
    """
    hasher = hashlib.sha256(layout.raw)
    position, synced = len(layout.raw), 0
    for name, start in layout.starts.items():
        hasher.update(bytes(start - position))
        position = start
        check(go_on)  # before a tensor is copied from its device
        for chunk in _chunks(tensors[name]):
            check(go_on)
            hasher.update(chunk)
            write_all(fd, chunk, position)
            position += len(chunk)
            if position - synced >= SYNC_BYTES:
                os.fdatasync(fd)
                synced = position
    os.truncate(fd, layout.total_bytes)  # empty tensors may end it, behind padding
    write_all(fd, layout.raw.replace(NO_DIGEST.encode(), hasher.hexdigest().encode(), 1), 0)


def _chunks(tensor: "Tensor") -> Iterator[memoryview]:
    import torch

    data = memoryview(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def read_header(fd: int) -> Header:
    """Read and check a file's header, so that no tensor it speaks of lies outside of the file.

    Raises:
        BadFileError: it is cut off or makes no sense.
    """
    file_bytes = os.fstat(fd).st_size
    length = int.from_bytes(os.pread(fd, 8, 0), "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, file_bytes - 8):
        raise BadFileError(f"a header of {length} bytes in {file_bytes}")
    raw = os.pread(fd, 8 + length, 0)
    try:
        table = json.loads(raw[8:])
        metadata = table.pop("__metadata__")
        tensors = {name: _place(entry, len(raw), file_bytes) for name, entry in table.items()}
        fingerprint, digest = str(metadata["fingerprint"]), str(metadata["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(f"its header doesn't read: {error}") from error
    own = {name: place for name, place in tensors.items() if not name.startswith(PADDING)}
    return Header(fingerprint, digest, raw, own)


def _place(entry: Any, data_start: int, file_bytes: int) -> Place:
    """Raises ValueError, KeyError or TypeError for an entry that makes no sense."""
    import torch

    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    start, end = (data_start + offset for offset in entry["data_offsets"])
    item_bytes = getattr(torch, dtype).itemsize
    fits = data_start <= start <= end <= file_bytes and all(type(size) is int and size >= 0 for size in shape)
    if not fits or end - start != math.prod(shape) * item_bytes or start % item_bytes:
        raise ValueError(f"a tensor of shape {shape} at {start} to {end}")
    return Place(dtype, shape, start)


def check_contents(fd: int, fingerprint: str, go_on: GoOn) -> None:
    """Read a file to its end and compare checksum and fingerprint: 0.7 to 2 s for each GB.

    Raises:
        BadFileError: it is damaged, or another model's.
        StoppedError: `go_on` said no.
    """
    header = read_header(fd)
    if header.fingerprint != fingerprint:
        raise BadFileError("it holds other weights")
    hasher = hashlib.sha256(header.raw.replace(header.digest.encode(), NO_DIGEST.encode(), 1))
    for chunk in read_chunks(fd, len(header.raw), go_on):
        hasher.update(chunk)
    if hasher.hexdigest() != header.digest:
        raise BadFileError("its checksum differs")


def map_tensors(fd: int, header: Header) -> dict[str, "Tensor"]:
    """Tensors over a private map of the file, which goes when the last of them does.

    Pages are the page cache's own, shared by all who map the file, until one is written to: that page is
    then copied, and the file never changes. No descriptor stays open for it, as one would with `mmap`.

    Raises:
        OSError: the kernel refuses to map it.
    """
    import torch

    size = os.fstat(fd).st_size
    try:
        pages = torch.UntypedStorage.from_file(f"/proc/self/fd/{fd}", shared=False, nbytes=size)
    except RuntimeError as error:  # torch's word for whatever the kernel refuses
        raise OSError(f"it can't be mapped: {error}") from error
    contents = torch.empty(0, dtype=torch.uint8).set_(pages, 0, (size,))
    tensors = {}
    for name, place in header.tensors.items():
        dtype = getattr(torch, place.dtype)
        end = place.start + math.prod(place.shape) * dtype.itemsize
        tensors[name] = contents[place.start : end].view(dtype).view(place.shape)
    return tensors
