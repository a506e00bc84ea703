"""The Pool page: memory, workers with what they hold, who waits, and what was lately."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel

SECTIONS = (
    ("Memory", ids.DEVICES),
    ("Workers", ids.WORKERS),
    ("Queue", ids.WAITERS),
    ("The last ten minutes", ids.TIMELINE),
    ("Workers that are gone", ids.DEPARTURES),
)


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_POOL, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML("<h1>Pool</h1><p>Warm processes, and the models they hold.</p>", apply_default_css=False)
            panel(ids.LOADER, act)
        for title, panel_id in SECTIONS:
            gr.HTML(f"<h2>{title}</h2>", apply_default_css=False)
            panel(panel_id, act, elem_classes=["panel"])
