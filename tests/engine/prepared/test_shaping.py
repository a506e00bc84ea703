"""What makes prepared weights of one source differ."""

import dataclasses
import pickle
import shutil
from pathlib import Path

import pytest

from workbench.engine.config import pickled_config
from workbench.engine.spec import ModelSpec
from workbench.settings import SHIPPED_DATA

pytestmark = pytest.mark.engine

SPEC = ModelSpec("adder", str(SHIPPED_DATA / "demo" / "adder"), 1 << 21, 64 << 20, 256)


def shape_of(spec: ModelSpec) -> dict[str, str]:
    from workbench.engine.prepared.shaping import shaping

    return shaping(pickle.loads(pickled_config(spec, 8 << 30)))


def test_what_does_not_shape_weights_is_left_out(tmp_path: Path):
    shutil.copytree(SPEC.path, tmp_path / "copy")
    other = dataclasses.replace(
        SPEC, name="copy", path=str(tmp_path / "copy"), kv_cache_bytes=32 << 20, context_length=128
    )
    assert shape_of(other) == shape_of(SPEC)


@pytest.mark.parametrize(
    ("change", "part"), [({"dtype": "float32"}, "dtype"), ({"quantization": "fp8"}, "quantization")]
)
def test_what_shapes_weights_is_in(change, part):
    assert shape_of(dataclasses.replace(SPEC, **change))[part] != shape_of(SPEC)[part]


def test_the_configuration_is_in(tmp_path: Path):
    shutil.copytree(SPEC.path, tmp_path / "copy")
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    edited = dataclasses.replace(SPEC, path=str(tmp_path / "copy"))
    assert shape_of(edited)["config"] != shape_of(SPEC)["config"]
