"""What was rendered before, for as long as it shows the same."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """Parts of a page's frames, each rendered anew only when what it is made of has changed."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[object, Any]] = {}

    def __call__(self, name: str, made_of: object, make: Callable[[], T]) -> T:
        """The part `name`.

        Args:
            made_of: all that `make` depends on, to be compared with what the present part was made of.
        """
        known = self._made.get(name)
        if known is None or known[0] != made_of:
            known = self._made[name] = made_of, make()
        found: T = known[1]
        return found
