"""Damage, changed sources, and several processes at once: never wrong weights."""

import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.engine.prepared.weights import SHAPE, make_source, parameters, same, settle
from workbench.engine.chunks import always
from workbench.engine.prepared.fingerprint import Source
from workbench.engine.prepared.replace import replacing, sweep
from workbench.engine.prepared.store import PreparedStore

LIMIT = 1 << 30
OTHER_SHAPE = SHAPE | {"dtype": "float16"}
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "prepared"


@pytest.fixture
def model(tmp_path):
    return make_source(tmp_path / "model")


@pytest.fixture
def store(folder, model):
    """With the model prepared."""
    store = PreparedStore(folder, LIMIT)
    assert store.prepare(Source.look(model), SHAPE, parameters())
    return store


def record_of(path):
    return path.with_suffix(".json")


def vouch_for(path):
    """Give the record the file's present identity, as if the change had happened below the file system."""
    status = path.stat()
    identity = [status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    record_of(path).unlink(missing_ok=True)
    record_of(path).write_text(json.dumps({"identity": identity}))


def flip_bit(path, at):
    """In place, with the modification time put back."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# The entry itself.


def test_a_flipped_bit_is_seen_and_the_entry_written_anew(store, model):
    source = Source.look(model)
    path = store.find(source, SHAPE).path
    flip_bit(path, path.stat().st_size // 2)
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, parameters())
    assert same(store.map(store.find(source, SHAPE), parameters()), parameters())


@pytest.mark.parametrize("part", ["header", "data"])
def test_damage_that_no_time_shows_is_found_by_verify(store, model, part):
    source = Source.look(model)
    path = store.find(source, SHAPE).path
    flip_bit(path, 4096 + 50 if part == "data" else path.read_bytes().index(b'"scale"') + 2)
    vouch_for(path)
    assert not store.verify(store.find(source, SHAPE))
    assert not path.exists()
    assert store.find(source, SHAPE) is None


@pytest.mark.parametrize("left", [0, 4, 100, 4096, 5000])
@pytest.mark.parametrize("vouched", [False, True])
def test_a_truncated_file_is_never_mapped(store, model, left, vouched):
    source = Source.look(model)
    path = store.find(source, SHAPE).path
    path.chmod(0o644)
    os.truncate(path, left)
    if vouched:
        vouch_for(path)
        assert store.map(store.find(source, SHAPE), parameters()) is None
        assert not path.exists()
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, parameters())
    assert same(store.map(store.find(source, SHAPE), parameters()), parameters())


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"__metadata__": 1}',
        b'{"__metadata__": {"fingerprint": "f", "digest": "d"}, "a": 1}',
        b'{"__metadata__": {"fingerprint": "f", "digest": "d"}, "a": {"dtype": "F32"}}',
        b'{"__metadata__": {"fingerprint": "f", "digest": "d"},'
        b' "a": {"dtype": "U8", "shape": [1000000], "data_offsets": [0, 1000000]}}',
    ],
)
def test_a_header_that_makes_no_sense_is_discarded(store, model, header):
    source = Source.look(model)
    path = store.find(source, SHAPE).path
    path.chmod(0o644)
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(5000))
    vouch_for(path)
    assert store.map(store.find(source, SHAPE), parameters()) is None
    assert not path.exists()


def test_a_file_of_something_else_is_discarded(store, model):
    path = store.find(Source.look(model), SHAPE).path
    path.chmod(0o644)
    path.write_bytes(b"\xff" * 5000)
    vouch_for(path)
    assert store.map(store.find(Source.look(model), SHAPE), parameters()) is None
    assert not path.exists()


@pytest.mark.parametrize("vouched", [False, True])
def test_weights_under_the_name_of_others_are_refused(store, model, vouched):
    source = Source.look(model)
    store.prepare(source, OTHER_SHAPE, parameters(1))
    path = store.find(source, SHAPE).path
    store.find(source, OTHER_SHAPE).path.replace(path)
    if vouched:
        vouch_for(path)
        assert store.map(store.find(source, SHAPE), parameters()) is None
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, parameters())
    assert same(store.map(store.find(source, SHAPE), parameters()), parameters())


def test_an_entry_is_trusted_only_once_its_clock_has_ticked(store, model):
    entry = store.find(Source.look(model), SHAPE)
    assert entry.identity.settled(record_of(entry.path).stat().st_ctime_ns)


def while_read_back(folder, change):
    """A `go_on` that calls `change` with the new entry's path, once."""
    known = set(folder.glob("*.safetensors"))
    done = []

    def go_on():
        for path in set(folder.glob("*.safetensors")) - known - set(done):
            done.append(path)
            change(path)
        return True

    return go_on


def test_another_writer_may_replace_an_entry_while_it_is_read_back(store, folder, model):
    def replace(path):
        shutil.copy(path, path.with_suffix(".copy"))
        path.with_suffix(".copy").replace(path)

    source = Source.look(model)
    assert store.prepare(source, OTHER_SHAPE, parameters(), while_read_back(folder, replace))
    assert same(store.map(store.find(source, OTHER_SHAPE), parameters()), parameters())


@pytest.mark.parametrize("at", [100, -1])
def test_an_entry_changed_while_it_is_read_back_is_not_kept(store, folder, model, at):
    """Both ahead of the reading, and behind it."""
    size = 3 << 20
    wanted = {"weight": torch.zeros(size, dtype=torch.uint8)}

    def change(path):
        flip_bit(path, at % path.stat().st_size)

    source = Source.look(model)
    assert not store.prepare(source, OTHER_SHAPE, wanted, while_read_back(folder, change))
    assert store.find(source, OTHER_SHAPE) is None
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_a_file_replaced_after_it_was_found_is_not_mapped(store, model):
    source = Source.look(model)
    entry = store.find(source, SHAPE)
    shutil.copy(entry.path, entry.path.with_suffix(".copy"))
    entry.path.with_suffix(".copy").replace(entry.path)
    assert store.map(entry, parameters()) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": null}', '{"files": {"config.json": 1}}'])
def test_unreadable_records_mean_that_nothing_is_known(store, model, folder, text):
    source = Source.look(model)
    for record in folder.rglob("*.json"):
        record.unlink()
        record.write_text(text)
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, parameters())
    assert store.find(source, SHAPE)


# The source.


def rewrite(model):
    """Other weights of the same size, and the modification time put back."""
    path = model / "model.safetensors"
    status = path.stat()
    flip_bit(path, status.st_size - 10)
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def replace_by_rename(model):
    path, other = model / "model.safetensors", model / "other"
    status = path.stat()
    shutil.copy(path, other)
    flip_bit(other, status.st_size - 10)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def add_weights(model):
    shutil.copy(model / "model.safetensors", model / "more.safetensors")


def edit_config(model):
    (model / "config.json").write_text('{"model_type": "else"}')


CHANGES = [rewrite, replace_by_rename, add_weights, edit_config]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_never_finds_the_old_entry(store, model, change):
    before = Source.look(model)
    change(settle(model))
    changed = Source.look(settle(model))
    assert store.find(changed, SHAPE) is None
    assert store.prepare(changed, SHAPE, parameters(1))
    assert same(store.map(store.find(changed, SHAPE), parameters()), parameters(1))
    assert store.find(before, SHAPE) is None


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_source_changed_while_it_was_loaded_is_not_prepared(store, folder, model, change, known):
    if not known:
        shutil.rmtree(folder / "sources")
    source = Source.look(model)
    change(model)
    assert not store.prepare(source, OTHER_SHAPE, parameters())
    assert len(list(folder.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_changed_while_it_is_hashed_is_not_prepared(folder, model, change):
    store = PreparedStore(folder, LIMIT)
    changes = iter([change])

    def go_on():
        for make in changes:
            make(model)
        return True

    assert not store.prepare(Source.look(model), SHAPE, parameters(), go_on)
    assert list(folder.rglob("*.*")) == []


def test_a_source_too_fresh_to_tell_is_not_prepared(folder, model):
    store = PreparedStore(folder, LIMIT)
    fresh = dataclasses.replace(Source.look(model), settled=False)
    assert not store.prepare(fresh, SHAPE, parameters())
    assert not folder.exists()


# Other processes, and the disk.


def prepare_in_child(folder, model, barrier, size, results):
    source = Source.look(model)
    waited = False

    def go_on():
        nonlocal waited
        if not waited:
            waited = True
            barrier.wait(60)  # both have found nothing, and are about to write
        return True

    store = PreparedStore(folder, LIMIT)
    wanted = parameters(size=size)
    results.put(
        store.prepare(source, OTHER_SHAPE, wanted, go_on)
        and same(store.map(store.find(source, OTHER_SHAPE), wanted), wanted)
    )


def test_two_processes_may_write_one_entry_at_once(store, folder, model):
    barrier, results, size = SPAWN.Barrier(2), SPAWN.Queue(), 100_000
    children = [
        SPAWN.Process(target=prepare_in_child, args=(folder, model, barrier, size, results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    assert [results.get(timeout=100) for _ in children] == [True, True]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    source = Source.look(model)
    entry = store.find(source, OTHER_SHAPE)
    assert store.verify(entry)
    assert same(store.map(entry, parameters(size=size)), parameters(size=size))
    assert list(folder.rglob("*.tmp")) == []


def prepare_with_little_disk(folder, model, results):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    store = PreparedStore(folder, LIMIT)
    results.put(store.prepare(Source.look(model), OTHER_SHAPE, {"weight": torch.zeros(1 << 20)}))


def test_a_write_that_fails_midway_leaves_nothing(store, folder, model):
    before = sorted(folder.rglob("*"))
    results = SPAWN.Queue()
    child = SPAWN.Process(target=prepare_with_little_disk, args=(folder, model, results))
    child.start()
    assert results.get(timeout=100) is False
    child.join(60)
    assert sorted(folder.rglob("*")) == before
    assert store.find(Source.look(model), SHAPE)


def test_a_folder_that_can_not_be_written_is_no_error(model, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = PreparedStore(tmp_path / "file" / "prepared", LIMIT)
    source = Source.look(model)
    assert store.find(source, SHAPE) is None
    assert not store.prepare(source, SHAPE, parameters())


def die_while_writing(folder, model):
    chunks = iter(range(2))
    go_on = lambda: next(chunks, None) is not None or os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    wanted = {"weight": torch.zeros(5 << 20, dtype=torch.uint8)}
    PreparedStore(folder, LIMIT).prepare(Source.look(model), OTHER_SHAPE, wanted, go_on)


def test_what_a_dead_writer_left_is_swept(store, folder, model):
    child = SPAWN.Process(target=die_while_writing, args=(folder, model))
    child.start()
    child.join(100)
    assert child.exitcode == -signal.SIGKILL
    assert len(list(folder.glob("*.tmp"))) == 1
    assert store.find(Source.look(model), OTHER_SHAPE) is None
    store.evict_to(LIMIT)
    assert list(folder.glob("*.tmp")) == []
    assert store.find(Source.look(model), SHAPE)


def test_what_a_living_writer_writes_stays(tmp_path: Path):
    with replacing(tmp_path / "file") as fd:
        os.write(fd, bytes(100))
        assert sweep(tmp_path) == 100
    assert (tmp_path / "file").read_bytes() == bytes(100)
    assert sweep(tmp_path) == 0


def test_an_entry_without_a_record_is_checked_before_it_is_used(store, model):
    source = Source.look(model)
    path = store.find(source, SHAPE).path
    record_of(path).unlink()
    assert store.find(source, SHAPE) is None
    assert store.prepare(source, SHAPE, {}, always)  # reads it instead of writing
    assert same(store.map(store.find(source, SHAPE), parameters()), parameters())
