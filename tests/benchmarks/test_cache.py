import pytest

from benchmarks.cache import made_once


def test_made_the_first_time_only(tmp_path):
    calls = []

    def make(path):
        calls.append(path)
        path.write_text("made")

    for _ in range(2):
        assert made_once(tmp_path / "kept" / "file", make).read_text() == "made"
    assert len(calls) == 1


def test_what_was_not_finished_is_not_there(tmp_path):
    def interrupted(path):
        path.mkdir()
        (path / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "folder", interrupted)
    assert not list(tmp_path.iterdir())


def test_the_first_to_finish_wins(tmp_path):
    def make(path):
        made_once(tmp_path / "folder", lambda other: (other.mkdir(), (other / "by").write_text("other")))
        path.mkdir()
        (path / "by").write_text("me")

    assert (made_once(tmp_path / "folder", make) / "by").read_text() == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
