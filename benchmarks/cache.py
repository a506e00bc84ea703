"""What benchmarks make once and keep: models, converted models, environments of peers, logs of servers."""

import tempfile
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).resolve().parent / ".cache"


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, a file or folder; where it is missing, `make` makes it at the path it is given.

    Whole or not there: it is made in a folder beside and then renamed. Where two processes make the same
    one, the first to finish wins.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        made = Path(folder) / path.name
        make(made)
        try:
            made.rename(path)
        except OSError:
            if not path.exists():
                raise
    return path
