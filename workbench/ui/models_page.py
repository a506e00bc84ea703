"""The Models page: the catalog, and the forms that add to it."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel
from workbench.ui.render.models import add_model


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_MODELS, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML("<h1>Models</h1><p>What can be served, and what could be.</p>", apply_default_css=False)
        panel(ids.CATALOG, act, elem_classes=["panel"])
        gr.HTML('<h2 class="admin-only">Add a model</h2>', apply_default_css=False)
        panel(ids.ADD_MODEL, act, value=add_model(), elem_classes=["panel"])
