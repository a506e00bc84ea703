"""What a frame of the event stream holds."""

from collections.abc import Sequence
from typing import Any

from workbench.service import ModelView, PoolSnapshot
from workbench.ui import ids
from workbench.ui.render import models as models_page
from workbench.ui.render import pool as pool_page


def live_view(pool: PoolSnapshot, models: Sequence[ModelView]) -> dict[str, Any]:
    """A frame of the event stream: HTML by panel id, and where each model is."""
    return {
        "html": {
            ids.STATUS: pool_page.status(pool),
            ids.WARMING: pool_page.warming(pool),
            ids.DEVICES: pool_page.devices(pool),
            ids.WORKERS: pool_page.workers(pool.workers),
            ids.WAITERS: pool_page.waiters(pool.waiters),
            ids.LOADER: pool_page.loader(models),
            ids.CATALOG: models_page.catalog(models),
        },
        "residency": {model.name: model.residency for model in models},
    }
