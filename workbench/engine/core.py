"""vLLM's engine core inside a warm worker: it can end without ending the process.

Subclasses of vLLM 0.32.0's own classes; every override says which upstream behaviour it replaces.
"""

import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import zmq
from vllm.config import VllmConfig
from vllm.multimodal.cache import MultiModalCacheMissError
from vllm.utils.network_utils import make_zmq_socket
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core import EngineCoreProc, EngineCoreRequestType, EngineShutdownState
from vllm.v1.engine.utils import EngineZmqAddresses
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.serial_utils import MsgpackDecoder

INPUT_POLL_MS = 20
THREAD_JOIN_S = 5.0


class WarmExecutor(UniProcExecutor):
    """Runs the model in the worker's own process.

    A subclass by name only, and on purpose: on the CPU vLLM rewrites the string "uni" to "mp", which
    would start a process at every load.
    """


class WarmEngineCore(EngineCoreProc):
    """An engine core that is given its sockets' addresses and gives everything back in the end."""

    def __init__(self, vllm_config: VllmConfig, addresses: EngineZmqAddresses) -> None:
        self._given_addresses = addresses
        self._input_closed = threading.Event()
        self._input_thread: threading.Thread | None = None
        self._step_began: float | None = None
        super().__init__(
            vllm_config,
            local_client=True,
            handshake_address="",
            executor_class=WarmExecutor,
            log_stats=True,
        )

    @contextmanager
    def _perform_handshakes(self, *args: Any, **kwargs: Any) -> Generator[EngineZmqAddresses, None, None]:
        """Replace the start-up handshake: the addresses came with the load command."""
        yield self._given_addresses

    def process_input_sockets(
        self,
        input_addresses: list[str],
        coord_input_address: str | None,
        identity: bytes,
        ready_event: threading.Event,
    ) -> None:
        """Replace upstream's endless input loop, which would leak a thread and sockets at each load."""
        self._input_thread = threading.current_thread()
        add_decoder = MsgpackDecoder(EngineCoreRequest, oob_tensor_provider=self.tensor_ipc_receiver)
        decoder = MsgpackDecoder(oob_tensor_provider=self.tensor_ipc_receiver)
        with ExitStack() as stack, zmq.Context() as context:
            poller = zmq.Poller()
            ready = msgspec.msgpack.encode(self._make_ready_response())
            for address in input_addresses:
                socket = stack.enter_context(
                    make_zmq_socket(context, address, zmq.DEALER, identity=identity, bind=False, linger=0)
                )
                socket.send(ready)
                poller.register(socket, zmq.POLLIN)
            ready_event.set()
            while not self._input_closed.is_set():
                for socket, _ in poller.poll(INPUT_POLL_MS):
                    type_frame, *frames = socket.recv_multipart(copy=False)
                    self._enqueue(
                        EngineCoreRequestType(bytes(type_frame.buffer)), frames, add_decoder, decoder
                    )

    def _enqueue(
        self,
        kind: EngineCoreRequestType,
        frames: list[zmq.Frame],
        add_decoder: MsgpackDecoder,
        decoder: MsgpackDecoder,
    ) -> None:
        if kind == EngineCoreRequestType.ADD:
            engine_request = add_decoder.decode(frames)
            try:
                request: Any = self.preprocess_add_request(engine_request)
            except MultiModalCacheMissError as error:
                self._handle_mm_cache_miss(engine_request, error)
                return
            except Exception:  # answered to the client, as upstream does; the engine goes on
                self._handle_request_preproc_error(engine_request)
                return
        else:
            request = decoder.decode(frames)
            if kind == EngineCoreRequestType.ABORT:
                self.aborts_queue.put_nowait(request)  # both queues: upstream aborts eagerly
        self.input_queue.put_nowait((kind, request))

    def _process_engine_step(self) -> bool:
        self._step_began = time.monotonic()
        try:
            return super()._process_engine_step()
        finally:
            self._step_began = None

    @property
    def step_s(self) -> float:
        """Seconds the engine step under way has taken so far; 0 between steps. Any thread may ask."""
        began = self._step_began
        return time.monotonic() - began if began is not None else 0.0

    def request_stop(self) -> None:
        """Make `run_busy_loop` abort what is in flight and return. Any thread may call it."""
        self.shutdown_state = EngineShutdownState.REQUESTED
        self.input_queue.put_nowait((EngineCoreRequestType.WAKEUP, None))

    def close_sockets(self) -> None:
        """End both I/O threads and their sockets."""
        self._input_closed.set()
        self.output_queue.put_nowait(EngineCoreProc.ENGINE_CORE_DEAD)
        self.output_thread.join(THREAD_JOIN_S)
        if self._input_thread is not None:
            self._input_thread.join(THREAD_JOIN_S)
