"""The Latency page."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel

HEAD = "<h1>Latency</h1><p>How long answers take to come, and what they wait for.</p>"


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_LATENCY, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML(HEAD, apply_default_css=False)
        panel(ids.LATENCY, act, elem_classes=["panel"])
