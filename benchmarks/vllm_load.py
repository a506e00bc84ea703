"""The load on a server of OpenAI's API, from a process of its own.

    OPENAI_API_KEY=KEY python -m benchmarks.vllm_load URL MODEL

Each line of standard input is a JSON object with `prompts`, `streams` and `max_tokens`; for each, a line
with `seconds` and `samples` is printed once it is done. Requests are sent and timed by the client of vLLM's
own `vllm bench serve`; the command itself would import vLLM anew for every measurement.
"""

import asyncio
import functools
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import Loaded, Sample, closed_loop
from benchmarks.workbench_server import Address

if TYPE_CHECKING:
    import aiohttp

LINE_BYTES = 1 << 24
ROOT = Path(__file__).resolve().parent.parent


class VllmLoad:
    """The process that loads a server. Use it as an async context manager."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def __aenter__(self) -> "VllmLoad":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.vllm_load",
            self._address.url,
            self._address.model,
            env=os.environ | {"OPENAI_API_KEY": self._address.key},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=LINE_BYTES,
        )
        return self

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    async def __aexit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def __call__(self, prompts: list[str], streams: int, max_tokens: int) -> Loaded:
        """Send all prompts, `streams` at a time.

        Raises:
            RuntimeError: a request failed; the process has printed why.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"prompts": prompts, "streams": streams, "max_tokens": max_tokens}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("A request failed, see above.")
        answer = json.loads(line)
        return Loaded(answer["seconds"], tuple(Sample(**sample) for sample in answer["samples"]))


async def serve_orders(url: str, model: str) -> None:
    """Carry out the orders of standard input."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            answer = functools.partial(_answer, session, url, model, order["max_tokens"])
            loaded = await closed_loop(answer, order["prompts"], order["streams"])
            print(json.dumps(asdict(loaded)), flush=True)


async def _answer(
    session: "aiohttp.ClientSession", url: str, model: str, max_tokens: int, prompt: str
) -> Sample:
    from vllm.benchmarks.lib.endpoint_request_func import (
        RequestFuncInput,
        async_request_openai_chat_completions,
    )

    request = RequestFuncInput(
        prompt=prompt,
        api_url=f"{url}/v1/chat/completions",
        prompt_len=0,  # only reported back
        output_len=max_tokens,
        model=model,
        extra_body={"temperature": 0},
    )
    output = await async_request_openai_chat_completions(request, session)
    if not output.success:
        raise RuntimeError(output.error)
    return Sample.of(output.ttft, output.latency, output.output_tokens)


if __name__ == "__main__":
    asyncio.run(serve_orders(*sys.argv[1:3]))
