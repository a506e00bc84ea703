"""The seed file: offered once, topped up later, never in the user's way."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.catalog.store import Catalog
from workbench.catalog.tables import Model
from workbench.errors import BadRequestError

SHIPPED = Path(__file__).parents[2] / "data" / "models.toml"

TINY = '[[models]]\nname = "tiny"\nfolder = "models/tiny"\ndescription = "t"\nkv_cache_bytes = 67_108_864\n'
SMALL = '[[models]]\nname = "small"\nhub_id = "org/small"\ndescription = "s"\nparameters = 5\n'
LARGE = '[[models]]\nname = "large"\nhub_id = "org/large"\ndescription = "l"\n'


@pytest.fixture
def seeded(tmp_path: Path) -> Callable[[str], list[Model]]:
    """Open the catalog with a seed file of this text, and return what it lists."""

    def open_with(text: str) -> list[Model]:
        (tmp_path / "models.toml").write_text(text)
        catalog = Catalog.open(tmp_path / "workbench.db", tmp_path / "models.toml")
        models = catalog.models()
        catalog.close()
        return models

    return open_with


def test_the_shipped_file(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "workbench.db", SHIPPED)
    hub_models = [model for model in catalog.models() if model.source_kind == "hub"]
    catalog.close()
    assert len(hub_models) >= 12
    for model in hub_models:
        assert model.weight_bytes == 2 * model.parameters > 0, model.name
        assert model.architecture
        assert model.licence
        assert model.context_length >= 2048
        assert model.description.endswith(".")
        assert (model.folder, model.download_state) == ("", "none")


def test_a_new_catalog_lists_what_is_there(seeded, write_model: Callable[..., Path]) -> None:
    folder = write_model()
    tiny, small = seeded(TINY + SMALL)
    assert (tiny.source_kind, tiny.folder, tiny.kv_cache_bytes) == ("local", str(folder), 64 << 20)
    assert (tiny.architecture, tiny.context_length, tiny.parameters) == ("LlamaForCausalLM", 128, 32)
    assert (small.source_kind, small.folder, small.parameters) == ("hub", "", 5)


def test_a_later_start_adds_only_what_is_new(seeded, tmp_path: Path) -> None:
    seeded(SMALL + LARGE)
    catalog = Catalog.open(tmp_path / "workbench.db")
    catalog.remove_model("large")
    catalog.update_model("small", description="mine")
    catalog.close()
    models = seeded(SMALL + LARGE + LARGE.replace("large", "new"))
    assert [(model.name, model.description) for model in models] == [("small", "mine"), ("new", "l")]


def test_a_local_model_is_listed_once_it_is_complete(seeded, write_model: Callable[..., Path]) -> None:
    assert seeded(TINY) == []
    write_model()
    assert [model.name for model in seeded(TINY)] == ["tiny"]


def test_what_the_user_added_first_stays(seeded, tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path / "workbench.db")
    catalog.add_model(Model(name="mine", source_kind="hub", hub_id="org/small"))
    catalog.add_model(Model(name="large", source_kind="hub", hub_id="org/other"))
    catalog.close()
    assert [(model.name, model.hub_id) for model in seeded(SMALL + LARGE)] == [
        ("mine", "org/small"),
        ("large", "org/other"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[models", "can't be used"),
        ("", "can't be used .'models'"),
        ("models = 3", "can't be used"),
        (SMALL + "size = 3\n", "size Extra inputs"),
        (SMALL.replace("5", '"5"'), "parameters Input should be"),
        (SMALL + 'folder = "x"\n', "either hub_id or folder"),
        (SMALL.replace("org/small", "small"), "no hub id"),
    ],
)
def test_a_wrong_file_is_explained_and_nothing_is_half_listed(seeded, text: str, sentence: str) -> None:
    with pytest.raises(BadRequestError, match=sentence):
        seeded(LARGE + text if text.startswith("[[models]]") else text)
    assert seeded("models = []") == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="No such file"):
        Catalog.open(tmp_path / "workbench.db", tmp_path / "nowhere.toml")
