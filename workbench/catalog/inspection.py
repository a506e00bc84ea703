"""What a model folder holds, found out without loading a tensor or running any code from it.

Whether the engine can serve the architecture is for the engine to say.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.catalog.weights import read_header, weight_files
from workbench.errors import BadRequestError

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "n_ctx",
    "seq_length",
)
_SAMPLING_KEYS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
"""Key of generation_config.json → name, as the engine reads them."""
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("tekken.json",))
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license(?:_name)?:\s*[\"']?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model folder that passed inspection."""

    folder: str
    """Resolved path."""
    architecture: str
    """Class name, as in config.json."""
    parameters: int
    """Tied output weights counted once."""
    weight_bytes: int
    """Bytes of the tensors as stored; tied output weights counted once."""
    context_length: int
    """Longest sequence the model was made for, in tokens; 0 where config.json does not say."""
    licence: str
    """From the front matter of README.md; "" without one."""
    chat_template: bool
    custom_code: bool
    """Whether config.json points to code in the folder. It is never run: an engine that does not know the
    architecture by itself can't serve such a model."""
    fingerprint: str
    """SHA-256 over config.json, the safetensors headers, and name, size and mtime of every weight and
    tokenizer file: changes when the model changes, and at worst also when it was only copied."""

    def columns(self) -> dict[str, Any]:
        """These facts as columns of a `Model` row of a local folder."""
        columns = asdict(self)
        columns["commit"] = columns.pop("fingerprint")
        del columns["custom_code"]
        return columns


def inspect_folder(path: Path, allowed_roots: tuple[Path, ...]) -> ModelFacts:
    """Check that a folder holds a complete model; takes milliseconds, reads headers only.

    Args:
        path: the folder; symbolic links are followed.
        allowed_roots: resolved folders; the model and all its files must lie in them.

    Raises:
        BadRequestError: the folder is outside the roots, missing, incomplete or damaged.
    """
    folder = path.expanduser().resolve()
    if not _inside(folder, allowed_roots):
        raise BadRequestError(
            f"{folder} is outside the folders models may come from: move it into one of "
            f"{', '.join(map(str, dict.fromkeys(allowed_roots)))}, or start Workbench with its parent in "
            "WORKBENCH_MODEL_ROOTS."
        )
    if not folder.is_dir():
        raise BadRequestError(f"There is no folder {folder}: check the path.")
    config = _read_config(folder)
    tokenizer = _tokenizer_files(folder)
    weights = weight_files(folder)
    for file in (folder / "config.json", *tokenizer, *weights):
        if not _inside(file.resolve(), allowed_roots):
            raise BadRequestError(
                f"{file} links to a place outside the allowed folders: copy the file there."
            )

    digest = hashlib.sha256((folder / "config.json").read_bytes())
    parameters = weight_bytes = 0
    tied = _find(config, "tie_word_embeddings") is True
    for file in weights:
        header, tensors = read_header(file)
        digest.update(header)
        for name, tensor in tensors.items():
            if not (tied and name.endswith("lm_head.weight")):
                parameters += tensor.parameters
                weight_bytes += tensor.bytes
    for file in (*tokenizer, *weights):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())

    return ModelFacts(
        folder=str(folder),
        architecture=config["architectures"][0],
        parameters=parameters,
        weight_bytes=weight_bytes,
        context_length=_context_length(config),
        licence=_licence(folder),
        chat_template=_has_chat_template(folder),
        custom_code="auto_map" in config,
        fingerprint=digest.hexdigest(),
    )


def sampling_defaults(folder: Path) -> dict[str, float]:
    """The sampling parameters that a model brings along, by their names in `SamplingOptions`."""
    try:
        config = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    given = {name: config.get(key) for key, name in _SAMPLING_KEYS.items()}
    return {name: value for name, value in given.items() if isinstance(value, int | float)}


def _inside(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise BadRequestError(
            f"{folder} has no config.json: give the folder of a model in Hugging Face format."
        ) from error
    except (OSError, ValueError) as error:
        raise BadRequestError(f"The config.json of {folder} can't be read: download it again.") from error
    if isinstance(config, dict):
        match config.get("architectures"):
            case [str(), *_]:
                return config
    raise BadRequestError(f"The config.json of {folder} names no architecture: use a model that does.")


def _tokenizer_files(folder: Path) -> list[Path]:
    for names in _TOKENIZERS:
        files = [folder / name for name in names]
        if all(file.is_file() for file in files):
            return files
    raise BadRequestError(f"{folder} has no tokenizer: copy tokenizer.json or tokenizer.model into it.")


def _find(config: dict[str, Any], key: str) -> Any:
    """A value of the text model: from the top, or from the part a multimodal config keeps it in."""
    text = config.get("text_config")
    return config.get(key, text.get(key) if isinstance(text, dict) else None)


def _context_length(config: dict[str, Any]) -> int:
    lengths = (_find(config, key) for key in _CONTEXT_KEYS)
    return next((length for length in lengths if isinstance(length, int) and length > 0), 0)


def _licence(folder: Path) -> str:
    try:
        readme = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return ""
    front_matter = _FRONT_MATTER.match(readme)
    names = _LICENCE.findall(front_matter[1]) if front_matter else []
    return next((name for name in names if name != "other"), "")


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    try:
        tokenizer_config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(tokenizer_config, dict) and bool(tokenizer_config.get("chat_template"))
