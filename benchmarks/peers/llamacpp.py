"""llama-cpp-python's server with several models: llama.cpp, the engine under Ollama and LM Studio.

It has one model at a time, mapped from a GGUF file, and loads another when a request names it.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cache import CACHE, made_once
from benchmarks.peers import to_gguf
from benchmarks.peers.environments import python_of
from benchmarks.peers.server import Server, free_port, started

REQUIREMENTS = ("llama-cpp-python[server]==0.3.36", "gguf==0.19.0")
ROOT = Path(__file__).resolve().parents[2]

# Its best on a switch. By default it locks the mapped file in memory, page by page, keeps the logits of the
# whole context and goes without the fused attention that llama.cpp itself prefers. Smaller batches gain
# nothing; reading the file instead of mapping it costs a second for 2 GB.
TUNED = {"use_mmap": True, "use_mlock": False, "logits_all": False, "flash_attn": True, "verbose": False}


@contextlib.contextmanager
def llamacpp_server(models: Sequence[Path], context_length: int) -> Iterator[Server]:
    """The server with `models`, converted to GGUF on first use; the first of them is loaded at once."""
    python = python_of("llama-cpp-python", REQUIREMENTS)
    names = {model: f"{number}-{model.name}" for number, model in enumerate(models)}
    cores, port = len(os.sched_getaffinity(0)), free_port()
    common = {"n_ctx": context_length, "n_threads": cores, "n_threads_batch": cores, **TUNED}
    config = {
        "host": "127.0.0.1",
        "port": port,
        "models": [
            {"model": str(gguf_of(model, python)), "model_alias": names[model], **common} for model in models
        ],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        command = [str(python), "-m", "llama_cpp.server", "--config_file", file.name]
        with started("llama-cpp-python", command, port, "/v1/models") as client:
            yield Server(client, names)


def gguf_of(model: Path, python: Path) -> Path:
    """The GGUF file of the model in folder `model`, converted by `python`, which has `gguf`, if need be."""
    described = hashlib.sha256(Path(to_gguf.__file__).read_bytes())
    for path in sorted(model.iterdir()):
        status = path.stat()
        described.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    file = CACHE / "gguf" / f"{model.name}-{described.hexdigest()[:12]}.gguf"

    def make(path: Path) -> None:
        command = [str(python), "-m", "benchmarks.peers.to_gguf", str(model.resolve()), str(path)]
        subprocess.run(command, cwd=ROOT, check=True)

    return made_once(file, make)
