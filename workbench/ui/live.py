"""Live panels: `gr.HTML` components that the script fills from the event stream, without Gradio's queue."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import gradio as gr

from workbench.ui.actions import Act, Reply
from workbench.values import Caller


def from_browser(act: Callable[[Any, Caller], Awaitable[Reply]]) -> Act:
    """`act` as Gradio calls it: with a browser's request, whose caller `AccessGuard` has found out."""

    async def from_caller(request: Any, http: gr.Request) -> Reply:
        return await act(request, http.state.caller)

    from_caller.__name__ = "act"  # what the page's script calls it
    return from_caller


def panel(elem_id: str, act: Act, value: str = "", *, elem_classes: Sequence[str] = ()) -> gr.HTML:
    """A panel that shows the frame's fragment of its own id.

    Its buttons and forms with `data-do` call `act`. The script listens on the panel's own element, never
    on the document, so that look-alike buttons in a model's answer do nothing.
    """
    return gr.HTML(
        value,
        elem_id=elem_id,
        elem_classes=list(elem_classes),
        js_on_load="workbench.panel(element, server)",
        server_functions=[act],
        apply_default_css=False,
    )
