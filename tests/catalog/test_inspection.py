"""Folders good and bad."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.catalog.conftest import CONFIG, model_files, safetensors
from workbench.catalog.inspection import inspect_folder, sampling_defaults
from workbench.errors import BadRequestError

WriteModel = Callable[..., Path]
WEIGHTS = model_files()["model.safetensors"]


def config(**changes: object) -> bytes:
    return json.dumps(CONFIG | changes).encode()


def test_the_facts_of_a_model(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model()
    facts = inspect_folder(folder, (tmp_path,))
    assert facts.folder == str(folder)
    assert facts.architecture == "LlamaForCausalLM"
    assert (facts.parameters, facts.weight_bytes) == (32, 64)
    assert facts.context_length == 128
    assert facts.licence == "apache-2.0"
    assert facts.chat_template
    assert not facts.custom_code
    assert facts.columns()["commit"] == facts.fingerprint
    assert "custom_code" not in facts.columns()


def test_tied_output_weights_count_once(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model(**{"config.json": config(tie_word_embeddings=True)})
    facts = inspect_folder(folder, (tmp_path,))
    assert (facts.parameters, facts.weight_bytes) == (16, 32)


def test_a_multimodal_config_keeps_the_text_model_apart(write_model: WriteModel, tmp_path: Path) -> None:
    nested = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"max_position_embeddings": 77},
    }
    folder = write_model(**{"config.json": json.dumps(nested).encode()})
    assert inspect_folder(folder, (tmp_path,)).context_length == 77


def test_what_the_files_do_not_say(write_model: WriteModel, tmp_path: Path) -> None:
    bare = json.dumps({"architectures": ["A"], "auto_map": {"AutoModel": "code.A"}}).encode()
    folder = write_model(**{"config.json": bare, "README.md": None, "tokenizer_config.json": None})
    facts = inspect_folder(folder, (tmp_path,))
    assert (facts.context_length, facts.licence, facts.chat_template) == (0, "", False)
    assert facts.custom_code


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: other\nlicense_name: mrl\n---\n", "mrl"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("# Text\nlicense: mit\n", ""),
        ("---\nlanguage: en\n---\nlicense: mit\n", ""),
    ],
)
def test_the_licence_comes_from_the_front_matter(
    write_model: WriteModel, tmp_path: Path, readme: str, licence: str
) -> None:
    folder = write_model(**{"README.md": readme.encode()})
    assert inspect_folder(folder, (tmp_path,)).licence == licence


def test_shards_are_summed_and_consolidated_weights_are_not(write_model: WriteModel, tmp_path: Path) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": safetensors(**{f"w{n}": (2, n)}) for n in (1, 2)}
    index = {
        "weight_map": {"w1": "model-00001-of-00002.safetensors", "w2": "model-00002-of-00002.safetensors"}
    }
    folder = write_model(**shards, **{"model.safetensors.index.json": json.dumps(index).encode()})
    assert inspect_folder(folder, (tmp_path,)).parameters == 2 + 4  # model.safetensors is not in the index
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert inspect_folder(folder, (tmp_path,)).parameters == 2 + 4


def test_the_fingerprint_follows_the_files(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model()
    prints = [inspect_folder(folder, (tmp_path,)).fingerprint]
    assert inspect_folder(folder, (tmp_path,)).fingerprint == prints[0]
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    prints.append(inspect_folder(folder, (tmp_path,)).fingerprint)
    (folder / "config.json").write_bytes(config(max_position_embeddings=129))
    prints.append(inspect_folder(folder, (tmp_path,)).fingerprint)
    (folder / "tokenizer.json").write_text("{ }")
    prints.append(inspect_folder(folder, (tmp_path,)).fingerprint)
    assert len(set(prints)) == 4


def overlong_header() -> bytes:
    return struct.pack("<Q", 1 << 40) + b"{}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config.json": None}, "has no config.json: give the folder"),
        ({"config.json": b"{"}, "config.json of .* can't be read"),
        ({"config.json": b"\xff"}, "config.json of .* can't be read"),
        ({"config.json": b"[]"}, "names no architecture"),
        ({"config.json": b"{}"}, "names no architecture"),
        ({"config.json": b'{"architectures": []}'}, "names no architecture"),
        ({"tokenizer.json": None}, "has no tokenizer: copy"),
        ({"tokenizer.json": None, "vocab.json": b"{}"}, "has no tokenizer"),
        ({"model.safetensors": None}, "has no safetensors weights"),
        ({"model.safetensors": None, "pytorch_model.bin": b""}, "PyTorch weights only.*convert"),
        ({"model.safetensors": b""}, "is no safetensors file or is damaged"),
        ({"model.safetensors": b"version https://git-lfs"}, "is no safetensors file or is damaged"),
        ({"model.safetensors": overlong_header()}, "is no safetensors file or is damaged"),
        ({"model.safetensors": struct.pack("<Q", 2) + b"[]"}, "is no safetensors file or is damaged"),
        (
            {"model.safetensors": WEIGHTS.replace(b"[4, 4]", b"[4, x]")},
            "is no safetensors file or is damaged",
        ),
        (
            {"model.safetensors": WEIGHTS.replace(b"[0, 32]", b"[40,32]")},
            "is no safetensors file or is damaged",
        ),
        (
            {"model.safetensors": WEIGHTS[:-1]},
            r"damaged, it has [\d,]+ bytes instead of [\d,]+: download it again",
        ),
        ({"model.safetensors": WEIGHTS + b"x"}, "damaged, it has"),
        ({"model.safetensors.index.json": b"{}"}, r"index.json can't be read"),
        ({"model.safetensors.index.json": b'{"weight_map": {}}'}, "names no files of its own folder"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"w": "../x"}}'},
            "names no files of its own folder",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "model.safetensors", "b": "b"}}'},
            "lacks 1 of 2 weight files, such as b: download",
        ),
    ],
)
def test_a_bad_folder_is_explained(
    write_model: WriteModel, tmp_path: Path, changes: dict[str, bytes | None], sentence: str
) -> None:
    folder = write_model(**changes)
    with pytest.raises(BadRequestError, match=sentence):
        inspect_folder(folder, (tmp_path,))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="There is no folder"):
        inspect_folder(tmp_path / "nowhere", (tmp_path,))


def test_a_folder_outside_the_roots(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model("secret/model")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/link").symlink_to(folder)
    for path in (folder, tmp_path / "models/../secret/model", tmp_path / "models/link", tmp_path / "nowhere"):
        with pytest.raises(BadRequestError, match="outside the folders models may come from"):
            inspect_folder(path, (tmp_path / "models",))


def test_a_file_outside_the_roots(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model()
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BadRequestError, match=r"tokenizer.json links to a place outside"):
        inspect_folder(folder, (tmp_path / "models",))


def test_links_within_the_roots_are_followed(write_model: WriteModel, tmp_path: Path) -> None:
    folder = write_model()
    (folder / "model.safetensors").rename(tmp_path / "models/blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "models/blob")
    assert inspect_folder(folder, (tmp_path / "models",)).parameters == 32


@pytest.mark.parametrize(
    ("config", "defaults"),
    [
        (None, {}),
        (b"{", {}),
        (b"[1]", {}),
        (b'{"temperature": 0.8, "top_k": null, "do_sample": true}', {"temperature": 0.8}),
        (b'{"max_new_tokens": 64, "top_p": "high"}', {"max_tokens": 64}),
    ],
)
def test_the_sampling_parameters_a_model_brings_along_are_read(write_model, config, defaults) -> None:
    assert sampling_defaults(write_model(**{"generation_config.json": config})) == defaults
