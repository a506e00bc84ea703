"""The KV cache page."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel

HEAD = "<h1>KV cache</h1><p>The memory in which each request keeps what it has read and written.</p>"


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_KV, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML(HEAD, apply_default_css=False)
        panel(ids.KV, act, elem_classes=["panel"])
