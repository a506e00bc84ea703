"""The same browser as for the page over the fake."""

from tests.ui.conftest import browser_type_launch_args

__all__ = ["browser_type_launch_args"]
