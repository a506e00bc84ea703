"""Weights of a model folder, read from the headers of its safetensors files; no tensor is loaded.

Format: https://github.com/huggingface/safetensors#format - eight bytes header length (little endian), a
JSON header that gives each tensor's dtype, shape and place, then the data.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import BadRequestError

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit


@dataclass(frozen=True, slots=True)
class Tensor:
    """Size of one tensor as stored."""

    parameters: int
    """Elements as stored; a quantized format may pack several weights into one."""
    bytes: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files vLLM would load, sorted.

    Raises:
        BadRequestError: there are none, or the index is unreadable or names files that are missing.
    """
    if (folder / INDEX).is_file():
        return _indexed_files(folder)
    # "consolidated" files hold the same weights once more, in the format of their maker.
    files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
    if files:
        return files
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise BadRequestError(
            f"{folder} has PyTorch weights only, which can run code when loaded: convert them to safetensors."
        )
    raise BadRequestError(f"{folder} has no safetensors weights: download the model again, or convert it.")


def read_header(path: Path) -> tuple[bytes, dict[str, Tensor]]:
    """The header of a safetensors file, raw and as tensors by name.

    Raises:
        BadRequestError: the header is corrupt, or the file is not as long as it says.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError("header too long")
            raw = file.read(length)
        places = {name: entry for name, entry in json.loads(raw).items() if name != "__metadata__"}
        tensors = {name: _tensor(entry) for name, entry in places.items()}
        data_bytes = max((entry["data_offsets"][1] for entry in places.values()), default=0)
    except OSError as error:
        raise BadRequestError(f"{path} can't be read ({error.strerror}): make it readable.") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadRequestError(f"{path} is no safetensors file or is damaged: download it again.") from error
    expected, actual = 8 + length + data_bytes, path.stat().st_size
    if actual != expected:
        raise BadRequestError(
            f"{path} is damaged, it has {actual:,} bytes instead of {expected:,}: download it again."
        )
    return raw, tensors


def _tensor(entry: dict[str, list[int]]) -> Tensor:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end:
        raise ValueError("tensor outside the file")
    return Tensor(parameters=math.prod(entry["shape"]), bytes=end - begin)


def _indexed_files(folder: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequestError(f"{folder / INDEX} can't be read: download it again.") from error
    if not names or any(Path(name).name != name for name in names):
        raise BadRequestError(f"{folder / INDEX} names no files of its own folder: download it again.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BadRequestError(
            f"{folder} lacks {len(missing)} of {len(names)} weight files, such as {missing[0]}: "
            "download the model again."
        )
    return [folder / name for name in names]
