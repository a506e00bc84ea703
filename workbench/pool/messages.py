"""What crosses the pipe between the app and a worker: small frozen dataclasses, pickled and framed."""

import pickle
import socket
import struct
from dataclasses import dataclass

from workbench.engine.host import LoadTimes
from workbench.engine.memory import MemoryReading

HEADER = struct.Struct("!I")
"""A frame is its length in bytes, then the pickled message. Both ends are ours."""


# App → worker.


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model; answered by LoadProgress, then Loaded, or LoadFailed and Cleaned."""

    number: int
    """Counts the loads of this worker; an Unload names the one it means."""
    config: bytes
    """A pickled VllmConfig."""
    input_address: str
    output_address: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Give the model back, or give up the load under way.

    Answered by Released, or LoadFailed, then Cleaned; ignored once that load is over.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong."""


# Worker → app.


@dataclass(frozen=True, slots=True)
class Warmed:
    """Ready for the first model."""

    memory: MemoryReading


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Bytes of weights loaded so far."""

    done_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine core serves."""

    times: LoadTimes
    can_sleep: bool = True
    """Whether the model would give its memory back asleep."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """vLLM could not load the model; its memory is given back."""

    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """Weights and KV cache are given back."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Ready for the next model."""

    growth_bytes: int
    """Memory held above the warm baseline: what the last model left behind."""
    memory: MemoryReading


@dataclass(frozen=True, slots=True)
class Crashed:
    """The engine failed while it served; the process ends itself after this."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life."""

    step_s: float
    """Seconds the engine step under way has taken; 0 between steps."""
    memory: MemoryReading


Command = Load | Unload | Ping
Report = Warmed | LoadProgress | Loaded | LoadFailed | Released | Cleaned | Crashed | Pong


def frame(message: Command | Report) -> bytes:
    """A message as it goes over the pipe."""
    body = pickle.dumps(message)
    return HEADER.pack(len(body)) + body


def receive(pipe: socket.socket) -> Command:
    """Block for the next command.

    Raises:
        EOFError: the other end is gone.
    """
    (length,) = HEADER.unpack(_receive_exactly(pipe, HEADER.size))
    command: Command = pickle.loads(_receive_exactly(pipe, length))
    return command


def _receive_exactly(pipe: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = pipe.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
