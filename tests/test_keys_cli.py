"""`workbench keys`, in this process, over a database that another Workbench may hold."""

import re

import pytest

from workbench.catalog.store import Catalog
from workbench.cli import main, read_settings
from workbench.keys_cli import keys_command


@pytest.fixture
def keys(tmp_path):
    def run(*arguments: str) -> int:
        return keys_command([*arguments, "--data-dir", str(tmp_path)], read_settings)

    return run


def test_a_key_is_created_listed_and_revoked(keys, capsys, tmp_path):
    assert keys("create", "ci", "--tokens-per-day", "5000", "--concurrency", "2") == 0
    created = capsys.readouterr()
    assert str(tmp_path / "workbench.db") in created.err
    secret = created.out.strip()
    assert re.fullmatch(r"wb-[\w-]{43}", secret), "alone on standard output, for scripts"
    assert keys("create", "boss", "--scope", "admin") == 0
    capsys.readouterr()
    assert keys("list") == 0
    listed = capsys.readouterr().out
    assert re.search(rf"^ci +{secret[:9]}… +chat +5000 tokens/day, 2 at a time +never", listed, re.MULTILINE)
    assert re.search(r"^boss .* admin +none", listed, re.MULTILINE)
    assert secret not in listed
    assert keys("revoke", "ci") == 0
    keys("list")
    assert "ci " not in capsys.readouterr().out


def test_it_works_beside_a_workbench_that_runs(keys, capsys, tmp_path):
    running = Catalog.open(tmp_path / "workbench.db")
    assert keys("create", "ci") == 0
    assert [row.name for row in running.keys.read(0.0)[0]] == ["ci"]
    running.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["revoke", "nobody"], 'no key named "nobody"'),
        (["create", "x", "--concurrency", "0"], "must be 1 or more"),
        (["create", "a\nb"], "printable"),
    ],
)
def test_what_is_wrong_is_a_sentence(keys, capsys, arguments, says):
    assert keys(*arguments) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["list", "--no-such-flag"], ["create"], ["create", "x", "--scope", "root"]]
)
def test_bad_flags_are_refused(keys, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        keys(*arguments)
    assert ended.value.code == 2


def test_keys_is_a_command_of_workbench(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["workbench", "keys", "list", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "There are no keys" in capsys.readouterr().err
