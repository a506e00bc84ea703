import contextlib
import subprocess
import sys

import psutil
import pytest

from benchmarks.peers import server
from benchmarks.peers.server import free_port, started

# A server with a child of its own that outlives it, as engines may.
SERVER = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
from http.server import ThreadingHTTPServer, SimpleHTTPRequestHandler
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "CACHE", tmp_path)
    return tmp_path


def still_running(processes: set[psutil.Process]) -> list[psutil.Process]:
    """Those that run 10 seconds later; one that ended may stay as a zombie where nobody collects it."""
    alive = psutil.wait_procs(processes, timeout=10)[1]
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def children(before: set[psutil.Process] = frozenset()) -> set[psutil.Process]:
    """Processes below this one that were not there before; other tests may have an application running."""
    return set(psutil.Process().children(recursive=True)) - before


def serving(port: int, **options: float):
    return started("peer", [sys.executable, "-c", SERVER, str(port)], port, "/", **options)


def test_it_serves_and_leaves_no_process_behind(cache):
    before = children()
    with serving(free_port()) as client:
        assert client.get("/").is_success
        processes = children(before)
        assert len(processes) == 2
    assert not still_running(processes)
    assert (cache / "logs" / "peer.log").exists()


def test_its_processes_end_when_the_measurement_fails():
    before = children()
    with contextlib.suppress(ZeroDivisionError), serving(free_port()):
        processes = children(before)
        raise ZeroDivisionError
    assert not still_running(processes)


def test_a_server_that_ends_shows_the_end_of_its_log():
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match=r"exit code 3(.|\n)*no such model"):  # noqa: SIM117
        with started("peer", command, free_port(), "/"):
            pass


def test_a_server_that_never_answers_is_given_up():
    before = children()
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(RuntimeError, match="did not serve within 1 s"):  # noqa: SIM117
        with started("peer", command, free_port(), "/", start_timeout_s=1):
            pass
    assert not children(before)


def test_a_killed_benchmark_leaves_no_server_behind(cache):
    benchmark = f"""
import sys
from benchmarks.peers import server
server.CACHE = server.Path({str(cache)!r})
port = server.free_port()
with server.started("peer", [sys.executable, "-m", "http.server", str(port)], port, "/"):
    print("serving", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", benchmark]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"serving\n"
        servers = set(psutil.Process(process.pid).children())
        process.kill()
    assert servers
    assert not still_running(servers)
