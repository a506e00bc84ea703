import pytest

from benchmarks.peers import environments
from scripts.install import InstallError, Stamp


class FakeEnvironment:
    """Keeps what the real one keeps on disk, and what was asked of pip."""

    stamps: dict
    calls: list
    pip_works = True

    def __init__(self, root):
        self.root, self.python = root, root / "bin" / "python"

    def usable(self):
        return self.root in self.calls

    def read_stamp(self) -> Stamp | None:
        return self.stamps.get(self.root)

    def write_stamp(self, stamp):
        self.stamps[self.root] = stamp

    def create(self):
        self.calls.append(self.root)
        self.stamps.pop(self.root, None)

    def pip(self, *arguments):
        self.calls.append(arguments)
        return self.pip_works


@pytest.fixture
def fake(monkeypatch):
    """The class, with nothing made yet."""
    fresh = type("Fresh", (FakeEnvironment,), {"stamps": {}, "calls": []})
    monkeypatch.setattr(environments, "Environment", fresh)
    monkeypatch.setattr(environments, "answers", lambda url: True)
    return fresh


def installed(fake):
    return [call for call in fake.calls if isinstance(call, tuple)]


def test_made_once_and_again_when_the_requirements_change(fake):
    for _ in range(2):
        environments.python_of("peer", ["package==1"])
    assert installed(fake) == [("install", "package==1")]
    environments.python_of("peer", ["package==2"])
    assert installed(fake)[1:] == [("install", "package==2")]


def test_an_install_that_failed_is_done_again(fake):
    fake.pip_works = False
    with pytest.raises(InstallError):
        environments.python_of("peer", ["package==1"])
    fake.pip_works = True
    environments.python_of("peer", ["package==1"])
    assert len(installed(fake)) == 2


def test_only_what_needs_torch_asks_for_its_index(fake):
    environments.python_of("peer", ["package"])
    environments.python_of("other", ["torch"], torch=True)
    assert "--extra-index-url" not in installed(fake)[0]
    assert "--extra-index-url" in installed(fake)[1]
