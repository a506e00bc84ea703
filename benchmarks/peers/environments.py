"""Virtual environments of the peers, made on first use in `benchmarks/.cache/envs`."""

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cache import CACHE
from scripts.install import TORCH_CPU_INDEX, Environment, InstallError, Stamp, answers, say


def python_of(name: str, requirements: Sequence[str], *, torch: bool = False) -> Path:
    """The Python of the environment `name`, made and filled with `requirements` unless it is so already.

    An environment counts as made once the stamp of its requirements is in it, so an interrupted install is
    done again from the start. With `torch`, PyTorch's CPU index is asked too where it answers, as
    `scripts/install.py` does. Raises InstallError where pip fails; what it said is on the terminal.
    """
    environment = Environment(CACHE / "envs" / name)
    wanted = Stamp(_fingerprint(requirements), frozenset())
    if environment.usable() and environment.read_stamp() == wanted:
        return environment.python
    say(f"making the environment of {name}; this takes some minutes")
    environment.create()
    index = ["--extra-index-url", TORCH_CPU_INDEX] if torch and answers(f"{TORCH_CPU_INDEX}/torch/") else []
    if not environment.pip("install", *index, *requirements):
        raise InstallError(f"pip could not install {', '.join(requirements)}, see above.")
    environment.write_stamp(wanted)
    return environment.python


def _fingerprint(requirements: Sequence[str]) -> str:
    described = json.dumps([sorted(requirements), platform.python_version()])
    return hashlib.sha256(described.encode()).hexdigest()
