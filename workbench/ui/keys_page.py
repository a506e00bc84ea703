"""The Keys page, for administrators: who may use Workbench, and how much."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel
from workbench.ui.render.keys import add_key

LEAD = "For programs, as <code>Authorization: Bearer wb-…</code>, and to sign in on this page."


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_KEYS, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML(f"<h1>Keys</h1><p>{LEAD}</p>", apply_default_css=False)
        panel(ids.KEYS, act, elem_classes=["panel"])
        gr.HTML("<h2>Create a key</h2>", apply_default_css=False)
        panel(ids.ADD_KEY, act, value=add_key(), elem_classes=["panel"])
