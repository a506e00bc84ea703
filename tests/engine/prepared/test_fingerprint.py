"""When a source counts as the same."""

import dataclasses
import os

import pytest

from tests.engine.prepared.weights import make_source
from workbench.engine.chunks import StoppedError, always
from workbench.engine.prepared.fingerprint import ContentDigests, FileIdentity, Fingerprint, Source

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("ctime_ns", "age_ns", "settled"),
    [
        (5 * SECOND + 1, 60_000_000, True),
        (5 * SECOND + 1, 40_000_000, False),
        (5 * SECOND + 1, -SECOND, False),
        (5 * SECOND, SECOND, False),  # a file system that counts whole seconds
        (5 * SECOND, 3 * SECOND, True),
    ],
)
def test_an_identity_is_settled_when_the_clock_has_ticked(ctime_ns, age_ns, settled):
    identity = FileIdentity(inode=1, device=1, size=1, mtime_ns=0, ctime_ns=ctime_ns)
    assert identity.settled(ctime_ns + age_ns) is settled


def test_looks_at_what_shapes_the_weights(tmp_path):
    folder = make_source(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("")
    (folder / "quantize_config.json").write_text("{}")
    assert Source.look(folder).files.keys() == {"config.json", "model.safetensors", "quantize_config.json"}


def test_a_link_is_the_same_source_as_its_folder(tmp_path):
    folder = make_source(tmp_path / "model")
    (tmp_path / "link").symlink_to(folder)
    assert Source.look(tmp_path / "link") == Source.look(folder)


def test_links_in_a_folder_stand_for_their_files(tmp_path):
    """A hub snapshot is made of links to blobs."""
    folder = make_source(tmp_path / "blobs")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(folder / name)
    before = Source.look(snapshot)
    os.utime(folder / "model.safetensors")
    assert Source.look(snapshot).files["config.json"] == before.files["config.json"]
    assert Source.look(snapshot).files["model.safetensors"] != before.files["model.safetensors"]


def test_a_folder_without_weights_is_no_source(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError):
        Source.look(tmp_path)
    with pytest.raises(FileNotFoundError):
        Source.look(tmp_path / "absent")


def test_contents_are_read_once(tmp_path):
    source = Source.look(make_source(tmp_path / "model"))
    digests = ContentDigests(tmp_path / "digests")
    assert digests.known(source) is None
    with pytest.raises(StoppedError):
        digests.learn(source, lambda: False)
    learned = digests.learn(source, always)
    assert digests.known(source) == learned
    assert digests.learn(source, lambda: False) == learned


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(FileIdentity)])
def test_every_part_of_an_identity_counts(tmp_path, field):
    source = Source.look(make_source(tmp_path / "model"))
    digests = ContentDigests(tmp_path / "digests")
    digests.learn(source, always)
    identity = source.files["config.json"]
    other = dataclasses.replace(identity, **{field: getattr(identity, field) + 1})
    changed = dataclasses.replace(source, files={**source.files, "config.json": other})
    assert digests.known(changed) is None


def test_contents_tell_models_apart_not_their_place(tmp_path):
    digests = ContentDigests(tmp_path / "digests")
    first, twin, other = (
        digests.learn(Source.look(make_source(tmp_path / name, seed)), always)
        for name, seed in [("first", 0), ("twin", 0), ("other", 1)]
    )
    assert Fingerprint.of(first, {"a": "b"}).key == Fingerprint.of(twin, {"a": "b"}).key
    keys = {Fingerprint.of(*parts).key for parts in [(first, {"a": "b"}), (other, {"a": "b"}), (first, {})]}
    assert len(keys) == 3
