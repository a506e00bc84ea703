"""The Pool page: devices with what they hold, workers, and who waits."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_POOL, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML("<h1>Pool</h1><p>Warm processes, and the models they hold.</p>", apply_default_css=False)
            panel(ids.LOADER, act)
        gr.HTML("<h2>Devices</h2>", apply_default_css=False)
        panel(ids.DEVICES, act, elem_classes=["panel"])
        gr.HTML("<h2>Workers</h2>", apply_default_css=False)
        panel(ids.WORKERS, act, elem_classes=["panel"])
        gr.HTML("<h2>Queue</h2>", apply_default_css=False)
        panel(ids.WAITERS, act, elem_classes=["panel"])
