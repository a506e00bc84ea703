"""The app's side of the engine: vLLM's own AsyncLLM, attached to a core that a worker runs."""

import asyncio
import contextlib
import pickle
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import zmq
from vllm import SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.renderers.params import ChatParams, TokenizeParams
from vllm.sampling_params import RequestOutputKind
from vllm.utils import func_utils
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from workbench.engine.front_end import FrontEnd
from workbench.engine.kv_cache import KvSnapshot
from workbench.engine.metrics import EngineMetrics
from workbench.engine.parsers import parsers_of
from workbench.engine.spec import GenerationChunk, ModelSpec, SamplingOptions
from workbench.errors import BadRequestError, WorkbenchError, WorkerDiedError

CORE_IDENTITY = (0).to_bytes(2, "little")
"""Identity that the only engine core of a client has on its input socket."""


class EngineClient:
    """One model's front end. `attach` and `close` block; the rest belongs to the event loop."""

    def __init__(self, llm: AsyncLLM, spec: ModelSpec, end_metrics: Callable[[], None]) -> None:
        self._llm = llm
        self._spec = spec
        self._model = spec.name
        self._end_metrics = end_metrics
        self._parsers = parsers_of(spec)
        self._front_end: asyncio.Task[FrontEnd] | None = None
        self._defaults: dict[str, Any] = llm.model_config.get_diff_sampling_param()
        """Sampling parameters of the model's generation config, which is read here once."""
        self._failure: WorkbenchError | None = None
        """Why no request can be answered any more."""
        self._failed = asyncio.Event()

    @classmethod
    def attach(
        cls,
        config: bytes,
        spec: ModelSpec,
        input_address: str,
        output_address: str,
        metrics: EngineMetrics,
        traces_endpoint: str | None,
    ) -> "EngineClient":
        """Bind both sockets, prepare the tokenizer, and wait until a core reports ready.

        Call it in a thread, beside the worker's load; `release` ends the wait. What the engine counts goes
        to `metrics` until `close`; it adds spans to traces if there is an endpoint for them.
        """
        collectors = metrics.of(spec.name)
        end_metrics = partial(collectors.end, collectors.begin())
        try:
            llm = AsyncLLM.from_vllm_config(
                pickle.loads(config),
                disable_log_stats=True,  # none of vLLM's own loggers, only this one
                stat_loggers=[collectors.stat_logger()],
                client_addresses={"input_address": input_address, "output_address": output_address},
            )
        except BaseException:
            end_metrics()
            raise
        if traces_endpoint:
            # Not in the configuration: each engine would replace the process's tracer, and leave a thread.
            llm.observability_config.otlp_traces_endpoint = traces_endpoint
            llm.output_processor.tracing_enabled = True
        return cls(llm, spec, end_metrics)

    @staticmethod
    def release(input_address: str) -> None:
        """End the wait of an `attach` whose core will not come, with an empty ready message."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.IDENTITY, CORE_IDENTITY)
            socket.setsockopt(zmq.LINGER, 5000)
            socket.connect(input_address)
            socket.send(b"")

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together, as the loaded engine has it."""
        return self._llm.model_config.max_model_len

    async def generate(
        self,
        messages: Sequence[dict[str, str]],
        options: SamplingOptions,
        request_id: str,
        *,
        go_on: bool = False,
        priority: int = 0,
        trace_headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[GenerationChunk]:
        """Answer a conversation.

        Args:
            messages: turns with "role" and "content", oldest first.
            options: sampling parameters; what is None comes from the model's generation config.
            request_id: unique name of the request.
            go_on: whether the last turn is the model's own, to be gone on with.
            priority: the lease's; lower goes first.
            trace_headers: the trace that the request belongs to.

        Raises:
            BadRequestError: the prompt doesn't fit, the template refuses the turns, or an option is out
                of range.
            WorkerDiedError: the engine died before the answer was complete.
        """
        prompt = await self._render(messages, go_on)
        if self._failure is not None:
            raise self._failure
        prompt_tokens = len(prompt["prompt_token_ids"])
        params = self._sampling_params(options, prompt_tokens)
        token_count = 0
        try:
            async for output in self._llm.generate(
                prompt, params, request_id, priority=priority, trace_headers=trace_headers
            ):
                completion = output.outputs[0]
                token_count += len(completion.token_ids)
                yield GenerationChunk(
                    text=completion.text,
                    token_count=token_count,
                    prompt_tokens=prompt_tokens,
                    cached_prompt_tokens=output.num_cached_tokens or 0,
                    finish_reason=completion.finish_reason,
                )
        except (EngineDeadError, EngineGenerateError) as error:
            if self._failure is not None:
                raise self._failure from error
            raise WorkerDiedError(
                f"The engine that ran {self._model} failed. Send the message again; "
                "the log of its worker says more."
            ) from error
        except (VLLMClientError, ValueError) as error:
            raise BadRequestError(f"{self._model} can't take this request: {error}.") from error

    async def front_end(self) -> FrontEnd:
        """vLLM's OpenAI-compatible application over this model, made when it is first asked for.

        Raises:
            WorkerDiedError: the engine has died.
        """
        if self._failure is not None:
            raise self._failure
        if self._front_end is None or (self._front_end.done() and self._front_end.exception()):
            building = FrontEnd.over(self._llm, self._spec, self._parsers, lambda: self._failure)
            self._front_end = asyncio.ensure_future(building)
        # A core that ends while it is asked what it can do never answers.
        failing = asyncio.ensure_future(self._failed.wait())
        await asyncio.wait({self._front_end, failing}, return_when=asyncio.FIRST_COMPLETED)
        failing.cancel()
        if self._failure is not None:
            raise self._failure
        return self._front_end.result()

    async def _render(self, messages: Sequence[dict[str, str]], go_on: bool) -> Any:
        """Apply the chat template and tokenize; returns vLLM's engine input."""
        template = {"add_generation_prompt": not go_on, "continue_final_message": go_on}
        try:
            _, prompts = await self._llm.renderer.render_chat_async(
                [list(messages)],
                ChatParams(chat_template_kwargs=template),
                TokenizeParams(max_total_tokens=None, add_special_tokens=False),
            )
        except Exception as error:
            if self._failure is not None:  # the tokenizer was closed under this request
                raise self._failure from error
            raise BadRequestError(
                f"The chat template of {self._model} refuses this conversation: {error}."
            ) from error
        return prompts[0]

    def _sampling_params(self, options: SamplingOptions, prompt_tokens: int) -> SamplingParams:
        room = self.context_length - prompt_tokens
        if room < 1:
            raise BadRequestError(
                f"The conversation is {prompt_tokens} tokens long, but {self._model} holds "
                f"{self.context_length} with the answer. Shorten it or start a new chat."
            )
        values = self._defaults | {
            name: value
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed")
            if (value := getattr(options, name)) is not None
        }
        values["max_tokens"] = min(values.get("max_tokens") or room, room)
        if options.stop:
            values["stop"] = list(options.stop)
        try:
            return SamplingParams(**values, output_kind=RequestOutputKind.DELTA)
        except ValueError as error:
            raise BadRequestError(f"{self._model} can't take these parameters: {error}.") from error

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the worker's engine core, between two of its steps."""
        return await self._llm.engine_core.call_utility_async(method, *args)

    async def start_profile(self, directory: str, name: str, max_steps: int) -> None:
        """Have the engine's next steps recorded, once the one under way has ended.

        Args:
            directory: where the trace goes.
            name: what the trace's file name begins with.
            max_steps: after as many, the recording ends by itself.
        """
        await self.call("start_profile", directory, name, max_steps)

    async def stop_profile(self) -> None:
        """End the recording, and wait until the trace is written."""
        await self.call("stop_profile")

    async def kv_snapshot(self) -> KvSnapshot:
        """The KV cache when the engine step under way has ended; never, if the core ends before.

        It reads nothing of the device, so it may be asked of an engine asleep too.
        """
        return msgspec.msgpack.decode(await self.call("kv_snapshot"), type=KvSnapshot)

    async def sleep(self, level: int) -> None:
        """Give up the device memory of weights and KV cache; nothing may be in flight.

        At level 1 the weights go to host memory, at level 2 they are dropped. The engine must be woken
        before it is asked for anything but `pin_host_memory`. An error leaves it in no usable state.
        """
        await self._llm.sleep(level)

    async def wake(self) -> None:
        """Bring the weights back, from the disk after level 2. An error leaves no usable state."""
        if not await self._llm.wake_up():
            raise RuntimeError("parts of the engine are still asleep")

    async def pin_host_memory(self) -> int:
        """Pin a further piece of the host memory that level 1 uses, between two steps: about 0.1 s.

        Returns:
            Bytes that are left to pin.
        """
        (left_bytes,) = await self._llm.collective_rpc("pin_host_memory")
        return int(left_bytes)

    def fail(self, error: WorkbenchError) -> None:
        """Fail every request in flight with `error`, at once: the core is gone and will not say so."""
        self._failure = error
        self._failed.set()
        self._llm.engine_core.resources.engine_dead = True
        self._llm.output_processor.propagate_error(error)

    def stop_listening(self) -> None:
        """Take no more output; due before the core stops, whose end would be logged as a failure."""
        if self._llm.output_handler is not None:
            self._llm.output_handler.cancel()
            self._llm.output_handler = None

    async def close(self) -> None:
        """Close sockets and tokenizer. The core must have stopped or died before: its socket lingers."""
        self.stop_listening()
        self._end_metrics()
        resources = self._llm.engine_core.resources
        self._llm.engine_core.shutdown()
        if resources.output_queue_task is not None:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await resources.output_queue_task
        # In a thread that nobody waits for: a prompt that is being tokenized must not hold up a shutdown.
        threading.Thread(target=self._dispose, name="dispose", daemon=True).start()

    def _dispose(self) -> None:
        """Free what vLLM leaves to garbage collection, or keeps for ever."""
        self._llm.renderer.shutdown()
        self._llm.engine_core.resources.ctx.term()  # three threads
        func_utils._supports_kw.cache_clear()  # every tokenizer: 2 MB a swap
