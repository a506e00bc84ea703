"""Workbench: chat with language models on a warm vLLM pool."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.notebook import Workbench

__version__ = "0.1.0"
__all__ = ["Workbench", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Workbench` on first use, so that `import workbench` stays cheap."""
    if name == "Workbench":
        from workbench.notebook import Workbench

        return Workbench
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
