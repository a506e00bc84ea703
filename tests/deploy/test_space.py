"""The Space: its front matter, its image's recipe, and its install and start steps, run for real.

There is no container engine in a test, so install.sh and start.sh run in a clean prefix, with a home of
their own. The prefix sees the packages of this environment, so that pip resolves everything but installs
only what is missing: Workbench itself, and without PyTorch's CPU index the media packages, which go again.
"""

import os
import re
import signal
import site
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from scripts.install import Environment, unfit_media_packages

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "deploy" / "space"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
DOCKERFILE = (SPACE / "Dockerfile").read_text()


@pytest.fixture
def front_matter() -> dict[str, object]:
    _, header, body = (SPACE / "README.md").read_text().split("---\n", 2)
    assert body.strip()
    values = yaml.safe_load(header)
    assert isinstance(values, dict)
    return values


def test_front_matter(front_matter: dict[str, object]) -> None:
    """As in Hugging Face's Spaces configuration reference."""
    assert front_matter["title"]
    assert not str(front_matter["emoji"]).isascii()
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= COLOURS
    assert (front_matter["sdk"], front_matter["app_port"]) == ("docker", 7860)
    assert front_matter["suggested_hardware"] == "cpu-basic"
    assert re.fullmatch(r"\d+[smh]", str(front_matter["startup_duration_timeout"]))
    assert 0 < len(str(front_matter["short_description"])) <= 60
    assert front_matter["license"] == "apache-2.0"
    assert front_matter["tags"]


def test_the_image_runs_as_user_1000_and_hands_signals_on() -> None:
    assert "--uid 1000" in DOCKERFILE
    assert DOCKERFILE.index("USER user") < DOCKERFILE.index("install.sh\n\nCOPY")
    assert re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE) == ['["bash", "deploy/space/start.sh"]']
    assert (SPACE / "start.sh").read_text().splitlines()[-1].startswith("exec ")


def test_what_the_image_copies_is_there_and_sent_to_the_build() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    sources = [
        source
        for line in re.findall(r"^COPY --chown=user (.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert "." in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source not in ignored


def test_compose_starts_the_same_image() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["workbench"]
    assert (ROOT / "deploy" / compose["build"]["context"] / compose["build"]["dockerfile"]).samefile(
        SPACE / "Dockerfile"
    )
    # Shown to this machine only, until somebody means otherwise.
    assert compose["ports"] == ["127.0.0.1:7860:7860"]
    cuda = yaml.safe_load((ROOT / "deploy" / "compose.cuda.yaml").read_text())["services"]["workbench"]
    for argument in cuda["build"]["args"]:
        assert f"ARG {argument}=" in DOCKERFILE


@pytest.mark.parametrize(("space", "ancestors"), [("me/workbench", "https://huggingface.co"), ("", "")])
def test_a_space_may_be_shown_by_its_host(tmp_path: Path, space: str, ancestors: str) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$WORKBENCH_HOST,$WORKBENCH_FRAME_ANCESTORS"\n')
    python.chmod(0o755)
    told = {
        "SPACE_ID": space,
        "HOME": str(tmp_path),
        "WORKBENCH_VENV": str(tmp_path),
        "PATH": os.environ["PATH"],
    }
    output = subprocess.check_output(["bash", SPACE / "start.sh"], env=told, text=True)
    assert output == f"0.0.0.0,{ancestors}\n"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A fresh environment beside this one, whose packages it sees."""
    prefix = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    (packages / "beside.pth").write_text("\n".join(site.getsitepackages()))
    return prefix


@pytest.fixture
def environ(tmp_path: Path, prefix: Path) -> dict[str, str]:
    """What a container would set: a home, and no setting of the machine that the test runs on."""
    home = tmp_path / "home"
    home.mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    # The Python of this environment's kind, whatever python3 is on the machine.
    (commands / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKBENCH_")}
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{commands}:{os.environ['PATH']}",
        "WORKBENCH_VENV": str(prefix),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_page(url: str, process: subprocess.Popen[str], seconds: float) -> str:
    """Return the page as soon as it is served."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no page at {url}; exit status {process.poll()}")


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_install_and_start(tmp_path: Path, prefix: Path, environ: dict[str, str]) -> None:
    subprocess.run(["bash", SPACE / "install.sh"], env=environ, check=True, timeout=200)
    installed = Environment(prefix).installed()
    assert "workbench" in installed
    assert unfit_media_packages(installed) == []

    port = free_port()
    environ |= {"WORKBENCH_HOST": "127.0.0.1", "WORKBENCH_PORT": str(port)}
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            ["bash", SPACE / "start.sh"],
            cwd=tmp_path,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            page = wait_for_page(f"http://127.0.0.1:{port}/", process, seconds=60)
            assert "Workbench" in page
            # The data lie where a container may write, and nowhere else.
            assert (tmp_path / "home" / "data" / "workbench.db").exists()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            print(log.read_text())
