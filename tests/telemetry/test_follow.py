"""Following a log: the last lines at once, then what is added, and never more than a bounded part of it."""

import pytest

from workbench.telemetry import follow
from workbench.telemetry.follow import LINE_CHARACTERS, LogTail


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "worker.log"
    path.write_bytes(b"one\ntwo\n")
    return path


def add(path, data: bytes):
    with path.open("ab") as file:
        file.write(data)


def test_lines_come_once_and_only_when_they_are_complete(log):
    tail = LogTail(log)
    assert tail.read() == ["one", "two"]
    assert tail.read() == []
    add(log, b"thr")
    assert tail.read() == []
    add(log, b"ee\nfour\nfi")
    assert tail.read() == ["three", "four"]
    assert tail.rest() == ["fi"]


def test_of_a_long_log_only_the_end_is_read(log):
    add(log, b"".join(b"line %d\n" % number for number in range(50_000)))
    lines = LogTail(log).read()
    assert lines[-1] == "line 49999"
    assert sum(len(line) + 1 for line in lines) <= follow.FIRST_BYTES
    assert lines[0].startswith("line ")


def test_a_burst_is_skipped_and_said_to_be(log):
    tail = LogTail(log)
    tail.read()
    add(log, b"x" * 99 + b"\n")
    add(log, (b"y" * 99 + b"\n") * 10_000)
    lines = tail.read()
    assert lines[0] == f"… {100 * 10_001 - follow.STEP_BYTES:,} bytes are left out …"
    assert sum(len(line) + 1 for line in lines[1:]) <= follow.STEP_BYTES
    add(log, b"z\n")
    assert tail.read() == ["z"]


def test_colours_progress_bars_bad_bytes_and_endless_lines_become_plain_lines(log):
    tail = LogTail(log)
    tail.read()
    add(log, b"\x1b[31mred\x1b[0m\n10%\r50%\r100%\r\n\xff\n" + b"a" * 9000 + b"\n")
    red, done, bad, long = tail.read()
    assert (red, done, bad) == ("red", "100%", "�")
    assert long == "a" * LINE_CHARACTERS + " …"


def test_a_line_that_never_ends_is_given_out_in_pieces(log):
    tail = LogTail(log)
    tail.read()
    for _ in range(3):
        add(log, b"a" * follow.STEP_BYTES)
        tail.read()
    assert len(tail._rest) <= follow.STEP_BYTES


def test_a_log_that_is_written_anew_is_read_from_its_beginning(log):
    tail = LogTail(log)
    tail.read()
    log.write_bytes(b"new\n")
    assert tail.read() == ["new"]


async def test_following_ends_with_the_writer_and_says_all_it_wrote(log, monkeypatch):
    monkeypatch.setattr(follow, "INTERVAL_S", 0.01)
    alive = [True]
    batches = follow.follow(log, lambda: alive[0])
    assert await anext(batches) == ["one", "two"]
    assert await anext(batches) == []
    add(log, b"last words")
    alive[0] = False
    assert await anext(batches) == ["last words"]
    assert [lines async for lines in batches] == []


async def test_a_log_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        await anext(follow.follow(tmp_path / "none.log", lambda: True))
