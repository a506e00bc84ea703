"""Which Chromium the browser tests take."""

from pathlib import Path

import pytest

from scripts import chromium
from scripts.chromium import find_chromium


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_named_one_wins(tmp_path: Path) -> None:
    executable(tmp_path / "chromium")
    assert find_chromium({"WORKBENCH_CHROMIUM": "/opt/chrome", "PATH": str(tmp_path)}) == "/opt/chrome"


def test_one_on_the_path(tmp_path: Path) -> None:
    chrome = executable(tmp_path / "google-chrome")
    assert find_chromium({"PATH": str(tmp_path)}) == chrome


def test_playwrights_newest(tmp_path: Path) -> None:
    builds = tmp_path / ".cache" / "ms-playwright"
    executable(builds / "chromium-1180" / "chrome-linux" / "chrome")
    newest = executable(builds / "chromium-1200" / "chrome-linux64" / "chrome")
    assert find_chromium({"PATH": str(tmp_path), "HOME": str(tmp_path)}) == newest


def test_none_is_installed_or_else_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str | None] = [None, "/usr/bin/chromium"]
    monkeypatch.setattr(chromium, "find_chromium", lambda: found.pop(0))
    monkeypatch.setattr(chromium, "apt_install", lambda *packages: "chromium" in packages)
    chromium.main()
    assert found == []

    monkeypatch.setattr(chromium, "find_chromium", lambda: None)
    with pytest.raises(SystemExit, match=r"apt-get install chromium.*WORKBENCH_CHROMIUM"):
        chromium.main()
