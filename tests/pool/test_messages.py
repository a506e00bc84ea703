import socket

import pytest

from workbench.pool.messages import HEADER, Load, Ping, frame, receive
from workbench.pool.worker import describe_exit


@pytest.fixture
def pipe():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_whole_and_in_order(pipe):
    ours, theirs = pipe
    load = Load(1, b"x" * 100_000, "ipc:///in", "ipc:///out")
    ours.sendall(frame(Ping()) + frame(load))
    assert receive(theirs) == Ping()
    assert receive(theirs) == load


def test_a_closed_pipe_is_the_end_also_within_a_message(pipe):
    ours, theirs = pipe
    ours.sendall(HEADER.pack(10) + b"half")
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs)


def test_exit_codes_are_told_as_people_know_them():
    assert describe_exit(-9) == "was killed (SIGKILL)"
    assert describe_exit(1) == "ended with exit code 1"
