"""`transformers serve`: loads the model that a request names, and keeps it until it was idle for long."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.peers.environments import python_of
from benchmarks.peers.server import Server, free_port, started

REQUIREMENTS = ("transformers[serving]==5.23.0", "accelerate==1.15.0", "torch==2.13.0")


@contextlib.contextmanager
def transformers_serve(models: Sequence[Path]) -> Iterator[Server]:
    """The server; its requests name a model by its folder. Without continuous batching, slower on a CPU."""
    python = python_of("transformers-serve", REQUIREMENTS, torch=True)
    port = free_port()
    command = [
        str(python.with_name("transformers")), "serve",
        "--device", "cpu", "--dtype", "bfloat16",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    names = {model: str(model.resolve()) for model in models}
    with started("transformers-serve", command, port, "/health") as client:
        yield Server(client, names, reset_path="/reset")
