"""Find a Chromium for the browser tests, or install one.

    .venv/bin/python -m scripts.chromium

`find_chromium` is for the tests. Run as above (`make test` does), this module installs Chromium where none
is found and it may (as root, with apt-get), and otherwise says what to do.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.install import apt_install

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the path of an installed Chromium or Chrome.

    In this order: what WORKBENCH_CHROMIUM names, a command on PATH, the newest that Playwright installed.
    """
    if named := environ.get("WORKBENCH_CHROMIUM"):
        return named
    for command in COMMANDS:
        if path := shutil.which(command, path=environ.get("PATH")):
            return path
    home = Path(environ.get("HOME", "/"))
    builds = Path(environ.get("PLAYWRIGHT_BROWSERS_PATH") or home / ".cache" / "ms-playwright")
    found = sorted(builds.glob("chromium-*/chrome-linux*/chrome"))
    return str(found[-1]) if found else None


def main() -> None:
    """Make sure that there is one; exits with a sentence that says what to do where that fails."""
    if not find_chromium() and not (apt_install("chromium", "fonts-liberation") and find_chromium()):
        sys.exit(
            "workbench: the browser tests found no Chromium: install it (Debian: apt-get install chromium), "
            "or run `.venv/bin/playwright install chromium`, or name one in WORKBENCH_CHROMIUM."
        )


if __name__ == "__main__":
    main()
