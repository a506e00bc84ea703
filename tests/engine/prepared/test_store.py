"""The cache of prepared weights: right weights or none."""

import os
import shutil

import pytest
import torch

from tests.engine.prepared.weights import SHAPE, make_source, parameters, same
from workbench.engine.prepared.fingerprint import Source
from workbench.engine.prepared.store import PreparedStore

LIMIT = 1 << 30


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "prepared"


@pytest.fixture
def store(folder):
    return PreparedStore(folder, LIMIT)


@pytest.fixture
def source(tmp_path):
    return Source.look(make_source(tmp_path / "model"))


def entries(folder):
    return sorted(folder.glob("*.safetensors"))


def leftovers(folder):
    return list(folder.rglob("*.tmp"))


def test_maps_what_was_prepared(store, source):
    wanted = parameters()
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, wanted)
    entry = store.find(source, SHAPE)
    assert same(store.map(entry, wanted), wanted)
    assert store.verify(entry)


def test_takes_the_expected_from_a_model_without_memory(store, source):
    store.prepare(source, SHAPE, parameters())
    expected = {name: tensor.to("meta") for name, tensor in parameters().items()}
    assert same(store.map(store.find(source, SHAPE), expected), parameters())


def test_finds_the_same_model_in_another_folder_once_it_is_hashed(store, source, tmp_path):
    store.prepare(source, SHAPE, parameters())
    twin = Source.look(make_source(tmp_path / "twin"))
    assert store.find(twin, SHAPE) is None
    before = entries(tmp_path / "prepared")[0].stat()
    assert store.prepare(twin, SHAPE, parameters())
    assert store.find(twin, SHAPE) == store.find(source, SHAPE)
    assert entries(tmp_path / "prepared")[0].stat() == before


def test_other_contents_and_other_shapes_are_other_entries(store, source, folder, tmp_path):
    other = Source.look(make_source(tmp_path / "other", seed=1))
    other_shape = SHAPE | {"dtype": "float16"}
    store.prepare(source, SHAPE, parameters())
    assert store.prepare(other, SHAPE, parameters(1))
    assert store.find(source, other_shape) is None
    assert store.prepare(source, other_shape, parameters(2))
    assert len(entries(folder)) == 3
    for found, shape, seed in [(source, SHAPE, 0), (other, SHAPE, 1), (source, other_shape, 2)]:
        assert same(store.map(store.find(found, shape), parameters()), parameters(seed))


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(lambda wanted: {"more": wanted["norm"], **wanted}, id="one missing"),
        pytest.param(lambda wanted: {"embed": wanted["embed"]}, id="too many"),
        pytest.param(lambda wanted: wanted | {"norm": torch.empty(3, 5)}, id="shape"),
        pytest.param(lambda wanted: wanted | {"norm": torch.empty(5, 3, dtype=torch.int32)}, id="type"),
    ],
)
def test_an_entry_that_does_not_fit_the_model_is_deleted(store, source, folder, expected):
    store.prepare(source, SHAPE, parameters())
    assert store.map(store.find(source, SHAPE), expected(parameters())) is None
    assert entries(folder) == []
    assert store.find(source, SHAPE) is None


@pytest.mark.parametrize(
    "tensor", [torch.zeros(4, 6).t(), torch.zeros(3, dtype=torch.complex64), torch.zeros(3, 3).to_sparse()]
)
def test_refuses_what_a_file_can_not_give_back(store, source, folder, tensor):
    assert not store.prepare(source, SHAPE, {"weight": tensor})
    assert entries(folder) == []


@pytest.mark.parametrize(
    ("phase", "has_begun"),
    [
        ("hashing", lambda folder: True),
        ("writing", lambda folder: any(path.stat().st_size for path in folder.glob("*.tmp"))),
        ("reading back", lambda folder: any(folder.glob("*.safetensors"))),
    ],
)
def test_gives_up_when_told_to(store, source, folder, phase, has_begun):
    wanted = {"weight": torch.arange(5 << 18)}
    assert not store.prepare(source, SHAPE, wanted, lambda: not has_begun(folder)), phase
    assert store.find(source, SHAPE) is None
    assert leftovers(folder) == []
    assert store.prepare(source, SHAPE, wanted)
    assert same(store.map(store.find(source, SHAPE), wanted), wanted)


def test_a_folder_that_moved_is_checked_and_taken_back(store, source, folder, tmp_path):
    store.prepare(source, SHAPE, parameters())
    shutil.copytree(folder, tmp_path / "copy")
    moved = PreparedStore(tmp_path / "copy", LIMIT)
    assert moved.find(source, SHAPE) is None
    inode = entries(tmp_path / "copy")[0].stat().st_ino
    assert moved.prepare(source, SHAPE, parameters())
    assert same(moved.map(moved.find(source, SHAPE), parameters()), parameters())
    assert entries(tmp_path / "copy")[0].stat().st_ino == inode


def test_the_folder_may_vanish_at_any_time(store, source, folder):
    wanted = parameters()
    store.evict_to(0)
    store.prepare(source, SHAPE, wanted)
    entry = store.find(source, SHAPE)
    mapped = store.map(entry, wanted)
    shutil.rmtree(folder)
    assert same(mapped, wanted)
    assert store.map(entry, wanted) is None
    assert store.verify(entry)
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, wanted)

    shutil.rmtree(folder)
    assert not store.prepare(source, SHAPE | {"dtype": "float16"}, wanted, lambda: remove(folder))
    assert entries(folder) == leftovers(folder) == []


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
    return True


def test_the_least_recently_used_goes_first(store, source, folder):
    shapes = [SHAPE | {"dtype": dtype} for dtype in ("a", "b", "c")]
    for age, shape in enumerate(shapes):
        store.prepare(source, shape, parameters())
        record = store.find(source, shape).path.with_suffix(".json")
        os.utime(record, (1000 + age, 1000 + age))
    store.map(store.find(source, shapes[0]), parameters())
    size = entries(folder)[0].stat().st_size

    store.evict_to(2 * size)
    assert [store.find(source, shape) is not None for shape in shapes] == [True, False, True]
    store.evict_to(2 * size - 1)
    assert [store.find(source, shape) is not None for shape in shapes] == [True, False, False]
    store.evict_to(0)
    assert entries(folder) == []


def test_stays_below_its_limit_while_it_writes(source, folder):
    size = 3 << 20
    small = PreparedStore(folder, 2 * size + 100_000)
    wanted = {"weight": torch.zeros(size, dtype=torch.uint8)}
    most_bytes = 0

    def measure():
        nonlocal most_bytes
        files = entries(folder) + leftovers(folder)
        most_bytes = max(most_bytes, sum(path.stat().st_size for path in files))
        return True

    for dtype in "abcd":
        assert small.prepare(source, SHAPE | {"dtype": dtype}, wanted, measure)
    assert size < most_bytes <= 2 * size + 100_000
    assert len(entries(folder)) == 2


def test_does_not_write_what_is_larger_than_the_limit(source, folder):
    small = PreparedStore(folder, 50_000)
    assert small.prepare(source, SHAPE, parameters())
    assert not small.prepare(source, SHAPE | {"dtype": "float16"}, parameters(size=1000))
    assert len(entries(folder)) == 1  # nor evicts anything for it
    assert not PreparedStore(folder, 0).prepare(source, SHAPE | {"dtype": "float16"}, parameters())


def test_leaves_room_on_the_disk(store, source, folder, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1 << 30)
    monkeypatch.setattr("workbench.engine.prepared.store.shutil.disk_usage", lambda path: usage)
    assert not store.prepare(source, SHAPE, parameters())
    assert entries(folder) == []
