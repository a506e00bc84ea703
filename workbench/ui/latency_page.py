"""The Latency page."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel
from workbench.ui.render import latency

HEAD = "<h1>Latency</h1><p>How long answers take to come, and what they wait for.</p>"


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_LATENCY, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML(HEAD, apply_default_css=False)
            _drawn(latency.controls(), ids.LATENCY_CHOICE)
        _drawn(latency.charts(), ids.LATENCY)
        gr.HTML("<h2>Switches</h2>", apply_default_css=False)
        panel(ids.LATENCY_SWITCHES, act, elem_classes=["panel"])
        gr.HTML("<h2>One request’s life</h2>", apply_default_css=False)
        _drawn(latency.life(), ids.LATENCY_LIFE)


def _drawn(html: str, elem_id: str) -> None:
    """HTML that the page's script fills."""
    gr.HTML(html, elem_id=elem_id, js_on_load="workbench.latency.mount(element)", apply_default_css=False)
