from pathlib import Path

import pytest
from pydantic import ValidationError

from workbench.cli import read_settings
from workbench.settings import Settings


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch):
    monkeypatch.setenv("WORKBENCH_PORT", "8001")
    monkeypatch.setenv("WORKBENCH_MEMORY_BUDGET", "2GiB")
    settings = read_settings(["--port", "8002"])
    assert (settings.port, settings.memory_budget, settings.host) == (8002, 2 << 30, "127.0.0.1")


def test_an_env_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("WORKBENCH_PORT=8003\nWORKBENCH_MODEL_ROOTS=/a:/b\n")
    assert Settings().port == 8003
    assert Settings().model_roots == (Path("/a"), Path("/b"))


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--port", "70000"], "port is '70000'"),
        (["--memory-budget", "lots"], "memory_budget is 'lots'"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--cuda-graph-sizes", "1,0"], "cuda_graph_sizes.1 is '0'"),
    ],
)
def test_bad_flags_are_a_line_each(flags, says, capsys):
    with pytest.raises(SystemExit) as ended:
        read_settings(flags)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_cuda_graph_sizes_are_split_at_commas_and_may_be_none(monkeypatch):
    assert read_settings(["--cuda-graph-sizes", "1, 8"]).cuda_graph_sizes == (1, 8)
    monkeypatch.setenv("WORKBENCH_CUDA_GRAPH_SIZES", "")
    assert Settings().cuda_graph_sizes == ()


def test_the_example_file_names_every_setting():
    text = Path(".env.example").read_text()
    assert all(f"#WORKBENCH_{name.upper()}=" in text for name in Settings.model_fields)
