"""The file of prepared weights, and the map of it."""

import gc
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from tests.engine.prepared.weights import parameters, same
from workbench.engine.chunks import always
from workbench.engine.prepared.tensor_file import ALIGNMENT, lay_out, map_tensors, read_header, write_tensors


@pytest.fixture
def path(tmp_path):
    path, wanted = tmp_path / "weights.safetensors", parameters(size=100_000)
    with path.open("w+b") as file:
        write_tensors(file.fileno(), lay_out(wanted, "the fingerprint"), wanted, always)
    return path


def mapped(path):
    with path.open("rb") as file:
        return map_tensors(file.fileno(), read_header(file.fileno()))


def map_of(path) -> dict[str, str]:
    """The kernel's account of this process's map of a file; empty if there is none."""
    blocks = Path("/proc/self/smaps").read_text().split("VmFlags:")
    block = next((block for block in blocks if str(path) in block), "")
    lines = block[block.find(str(path)) :].splitlines()[1:]
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}


def test_is_a_safetensors_file(path):
    found = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("__padding__")}
    assert same(found, parameters(size=100_000))
    with safe_open(path, "pt") as file:
        assert file.metadata()["fingerprint"] == "the fingerprint"


def test_tensors_are_aligned(path):
    with path.open("rb") as file:
        header = read_header(file.fileno())
    assert len(header.raw) % 4096 == 0
    assert {place.start % ALIGNMENT for place in header.tensors.values()} == {0}


def test_a_map_shares_pages_and_goes_with_its_last_tensor(path):
    tensors = mapped(path)
    assert tensors["embed"].float().sum().isfinite()
    account = map_of(path)
    assert int(account["Rss"].split()[0]) > 6000  # kB, all read by now
    assert account["Anonymous"] == "0 kB"  # pages that are not the file's
    last = tensors["norm"]
    del tensors
    gc.collect()
    assert map_of(path)
    assert same({"norm": last}, {"norm": parameters(size=100_000)["norm"]})
    del last
    assert not map_of(path)


def test_a_stray_write_stays_in_this_process(path):
    before = path.read_bytes()
    tensors = mapped(path)
    tensors["embed"].zero_()
    assert int(map_of(path)["Anonymous"].split()[0]) > 6000
    assert path.read_bytes() == before
    assert same(mapped(path), parameters(size=100_000))
    assert not tensors["embed"].any()


def test_a_map_holds_no_descriptor(path):
    before = sorted(Path("/proc/self/fd").iterdir())
    tensors = mapped(path)
    assert tensors
    assert sorted(Path("/proc/self/fd").iterdir()) == before
