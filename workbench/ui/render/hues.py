"""Colours of models, the same wherever a model shows on the Pool page."""

from workbench.values import PoolDetails

HUES = 8
"""The stylesheet has as many."""


class Hues:
    """Class names for the colours of models."""

    def __init__(self, details: PoolDetails) -> None:
        self._numbers = details.numbers

    def of(self, model: str) -> str:
        number = self._numbers.get(model)
        return f"hue-{number % HUES}" if number is not None else "hue"

    def dot(self, model: str) -> str:
        return f'<i class="dot {self.of(model)}"></i>'
