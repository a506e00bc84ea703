"""The Models page: the catalog, and the forms that add to it."""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.live import panel
from workbench.ui.render.models import add_model

FILTER = (
    '<input type="search" id="model-filter" placeholder="Filter models" aria-label="Filter models" '
    'autocomplete="off" title="Words of a name, a description, a licence, a place">'
)
NO_MODEL = '<p id="no-model" class="empty" role="status" hidden>No model has these words.</p>'


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_MODELS, elem_classes=["page", "sheet"]):
        with gr.Row(elem_classes=["page-head"]):
            gr.HTML("<h1>Models</h1><p>What can be served, and what could be.</p>", apply_default_css=False)
            gr.HTML(FILTER, js_on_load="workbench.models.mount()", apply_default_css=False)
        panel(ids.CATALOG, act, elem_classes=["panel"])
        gr.HTML(NO_MODEL, apply_default_css=False)
        gr.HTML('<h2 class="admin-only">Add a model</h2>', apply_default_css=False)
        panel(ids.ADD_MODEL, act, value=add_model(), elem_classes=["panel"])
