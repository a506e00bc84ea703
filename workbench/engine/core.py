"""vLLM's engine core inside a warm worker: it can end without ending the process.

Subclasses of vLLM 0.32.0's own classes; every override says which upstream behaviour it replaces.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import zmq
from vllm import envs
from vllm.config import VllmConfig
from vllm.multimodal.cache import MultiModalCacheMissError
from vllm.platforms import current_platform
from vllm.utils.network_utils import make_zmq_socket
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core import EngineCoreProc, EngineCoreRequestType, EngineShutdownState
from vllm.v1.engine.utils import EngineZmqAddresses
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.serial_utils import MsgpackDecoder

from workbench.engine.cpu_sleep import SleepingCPUWorker
from workbench.engine.kv_kept import forget_all_but, last_used
from workbench.engine.kv_memory import UntouchedZeros
from workbench.engine.kv_snapshot import WatchedEngineCore
from workbench.engine.packing import PackingQueue
from workbench.engine.prepared.preparation import Preparation

PACK_POLL_S = 0.1
PACK_WITHIN_S = 30.0
"""Answering for so long, for each GB of weights, packing waits until they are written to the disk."""
IPC = "ipc://"
BIND_POLL_S = 0.001
BIND_WAIT_S = 5.0
"""Below the 10 s after which upstream takes a silent input thread for dead."""
THREAD_JOIN_S = 5.0
PACK_AFTER_S = 0.5
"""An idle model is packed when it has served, or has waited this long for its first request."""


class WarmExecutor(UniProcExecutor):
    """Runs the model in the worker's own process.

    A subclass by name only, and on purpose: on the CPU vLLM rewrites the string "uni" to "mp", which
    would start a process at every load.
    """


class WarmEngineCore(WatchedEngineCore, EngineCoreProc):
    """An engine core that is given its sockets' addresses and gives everything back in the end."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        addresses: EngineZmqAddresses,
        packing: PackingQueue,
        preparation: Preparation | None,
        cancelled: threading.Event,
    ) -> None:
        self._given_addresses = addresses
        self._preparation = preparation
        self._cancelled = cancelled
        self._packing = packing
        self._input_closed = os.eventfd(0)
        self._input_thread: threading.Thread | None = None
        self._step_began: float | None = None
        self._steps = 0
        self._answered_s = 0.0
        """What all steps took together."""
        self._idle_since: float | None = None
        self._falls_asleep = False
        """Or sleeps."""
        try:
            super().__init__(
                vllm_config,
                local_client=True,
                handshake_address="",
                executor_class=WarmExecutor,
                log_stats=True,
            )
        except BaseException:  # the load failed or was cancelled
            self._cancelled.set()
            self.close_sockets()
            raise
        self._loaded_at = time.monotonic()

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
        self._wait_until_bound(input_addresses)
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
            poller.register(self._input_closed, zmq.POLLIN)
            while True:
                for socket, _ in poller.poll():
                    if socket == self._input_closed:
                        return
                    type_frame, *frames = socket.recv_multipart(copy=False)
                    self._enqueue(
                        EngineCoreRequestType(bytes(type_frame.buffer)), frames, add_decoder, decoder
                    )

    def process_output_sockets(
        self, output_paths: list[str], coord_output_path: str | None, engine_index: int
    ) -> None:
        """Upstream's, once the client is there; nothing if there will be none."""
        self._wait_until_bound(output_paths)
        if not self._cancelled.is_set():
            super().process_output_sockets(output_paths, coord_output_path, engine_index)

    def _wait_until_bound(self, addresses: list[str]) -> None:
        """Connect no earlier than the client listens: zmq would try again only after 0.1 s.

        The client is made meanwhile, in the app. One that gave up cancels the load; one that is slow is
        left to zmq, as upstream does.
        """
        deadline = time.monotonic() + BIND_WAIT_S
        paths = [address.removeprefix(IPC) for address in addresses if address.startswith(IPC)]
        while not all(map(os.path.exists, paths)):
            if self._cancelled.is_set() or time.monotonic() > deadline:
                return
            time.sleep(BIND_POLL_S)

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

    def _initialize_kv_caches(self, vllm_config: VllmConfig) -> KVCacheConfig:
        with UntouchedZeros() if current_platform.is_cpu() else contextlib.nullcontext():
            return super()._initialize_kv_caches(vllm_config)

    def _process_input_queue(self) -> None:
        """Pack layers while nothing is asked, then wait for work as upstream does."""
        self._idle_since = time.monotonic()
        while self._packing and not (self.has_work() or self.is_sleeping()) and self.is_running():
            self._pack_or_listen()
        if self.has_work():
            self._idle_since = None
        super()._process_input_queue()
        self._idle_since = None

    def _pack_or_listen(self) -> None:
        """Pack a layer, or wait for a request while that must not be."""
        first_due = self._loaded_at + PACK_AFTER_S  # whoever the model was loaded for goes first
        wait_s = max(0.0, first_due - time.monotonic()) if self._steps == 0 else 0.0
        if not wait_s and not self._may_pack():
            wait_s = PACK_POLL_S
        try:
            request = self.input_queue.get(block=wait_s > 0, timeout=wait_s or None)
        except queue.Empty:
            if self._may_pack():
                self._packing.pack_one()
        else:
            self._handle_client_request(*request)

    def _may_pack(self) -> bool:
        """A model that sleeps, or is about to once its last answers are flushed, stays unpacked.

        Weights that are being written are packed afterwards: packed ones would be in memory twice. A model
        that answers for long, and is idle for too short, is packed all the same, and prepared another time.
        """
        if not self._packing or self.is_sleeping():
            return False
        if self._preparation is not None and (unwritten := self._preparation.unwritten_bytes):
            if self._answered_s < PACK_WITHIN_S * max(1.0, unwritten / 1e9):
                return False
            self._preparation.give_up()
        return True

    def _process_engine_step(self) -> bool:
        """A step, then packing for as long as the step took: answers come at half speed, but soon at full."""
        self._step_began = began = time.monotonic()
        try:
            executed = super()._process_engine_step()
            took_s = time.monotonic() - began
            self._steps += executed
            self._answered_s += took_s
            if executed and self._may_pack():
                self._packing.pack_for(took_s)
            return executed
        finally:
            self._step_began = None

    def _handle_client_request(self, request_type: EngineCoreRequestType, request: Any) -> None:
        """Upstream's; prepared weights take the place of others here, where nothing computes with them."""
        if request_type == EngineCoreRequestType.WAKEUP and self._preparation is not None:
            self._preparation.take()
        super()._handle_client_request(request_type, request)

    def run_busy_loop(self) -> None:
        """Upstream's loop; what is left to do for the prepared weights goes on beside it."""
        self._go_on_preparing()
        super().run_busy_loop()

    def _go_on_preparing(self) -> None:
        if self._preparation is not None and self._preparation.due:
            self._preparation.start(lambda: self._idle_since, self._on_prepared, self._on_damaged_weights)

    def _on_prepared(self) -> None:
        """Have the engine look whether there is anything to `take`."""
        self.input_queue.put_nowait((EngineCoreRequestType.WAKEUP, None))

    def _on_damaged_weights(self) -> None:
        """End the engine: what it answered from is not what was prepared. Upstream's loop raises for this."""
        self.input_queue.put_nowait((EngineCoreRequestType.EXECUTOR_FAILED, b""))

    def packing_state(self) -> tuple[int, int]:
        """How many layers the load has put off packing, and how many are still to be packed."""
        return self._packing.put_off, len(self._packing)

    def sleep(self, level: int = 1, mode: str = "abort") -> Any:
        """Upstream's, once nobody reads the weights any more."""
        if self._preparation is not None:
            self._preparation.stop()
            self._preparation.join()
        self._packing.unpack()
        self._falls_asleep = True
        return super().sleep(level, mode)

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        """Upstream's; a model that falls asleep on the CPU keeps the blocks that were used last."""
        worker = self.model_executor.driver_worker.worker
        if not (self._falls_asleep and isinstance(worker, SleepingCPUWorker)):
            return super().reset_prefix_cache(*args, **kwargs)
        manager = self.scheduler.kv_cache_manager
        worker.kept_blocks = last_used(manager, worker.model_runner.kv_caches)
        if not worker.kept_blocks:
            return super().reset_prefix_cache(*args, **kwargs)
        forget_all_but(manager.block_pool, worker.kept_blocks)
        return True

    def wake_up(self, tags: list[str] | None = None) -> bool:
        """Upstream's; prepared weights count as used, and are read in full beside it if they were not yet."""
        self._falls_asleep = False
        fully_awake: bool = super().wake_up(tags)
        if self._preparation is not None:
            self._preparation.touch()
        self._go_on_preparing()
        return fully_awake

    def start_profile(self, directory: str, name: str, max_steps: int) -> None:
        """Have vLLM's torch profiler record the next steps, for a trace that begins with `name`.

        The profiler is configured here and not with the engine, which so knows of none until it is asked for.
        """
        config = self.vllm_config.profiler_config
        config.profiler, config.torch_profiler_dir = "torch", directory
        config.torch_profiler_with_stack = False  # Python's own calls would be most of the trace
        config.torch_profiler_record_shapes = True
        self.profile(True, name, max_iterations=max_steps)

    def stop_profile(self) -> None:
        """Write the trace, which a profiler that has recorded enough steps has done already."""
        self.profile(False)
        self.model_executor.driver_worker.worker.profiler = None  # upstream would keep all that it recorded

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
        self.output_queue.put_nowait(EngineCoreProc.ENGINE_CORE_DEAD)
        os.eventfd_write(self._input_closed, 1)
        for thread in (getattr(self, "output_thread", None), self._input_thread):
            if thread is not None:  # a load that failed may not have come so far
                thread.join(THREAD_JOIN_S)
        os.close(self._input_closed)

    def shutdown(self) -> None:
        """Replace upstream's shutdown, which ends in collections and destroys groups the next model uses."""
        self._packing.clear()
        if self._preparation is not None:
            self._preparation.stop()
        self.structured_output_manager.clear_backend()
        self.model_executor.shutdown()
        self.scheduler.shutdown()
        envs.disable_envs_cache()
