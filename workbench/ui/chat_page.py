"""The Chat page: conversations on the left, the thread in the middle, its settings on the right.

The page is one HTML component. Its script gets answers from `chat_routes`, asks `chat_actions` for the rest,
and draws models and their residency from the event stream: no Gradio event lies on the way of a token.
"""

import gradio as gr

from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.render.chat import page


def build(act: Act) -> None:
    """Lay out the page in the present Blocks context."""
    with gr.Column(elem_id=ids.PAGE_CHAT, elem_classes=["page"]):
        gr.HTML(
            page(),
            js_on_load="workbench.chat.mount(element, server)",
            server_functions=[act],
            apply_default_css=False,
        )
