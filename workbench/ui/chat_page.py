"""The Chat page: conversations on the left, the chat in the middle, its settings on the right."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import wraps
from typing import Any

import gradio as gr

from workbench.errors import ShuttingDownError
from workbench.service import ModelView, Workbench
from workbench.ui import ids
from workbench.ui.actions import Act
from workbench.ui.chat_flow import ChatFlow, ChatView, Message, Session, Turn
from workbench.ui.live import panel
from workbench.ui.parameters import PARAMETERS
from workbench.ui.render import chat as render
from workbench.ui.render.parts import RESIDENCY_LABELS, SERVABLE

Views = AsyncGenerator[ChatView]
Listener = Callable[..., AsyncIterator[Any]]

GREETING = """<div class="greeting"><h2>Pick a model and say something</h2>
<p>Switch models whenever you like, even within a conversation: the processes that run them stay warm.</p>
</div>"""

PRIVATE: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
"""For every listener: no public endpoint, no waiting behind others, no overlay on the page."""


def build(workbench: Workbench, act: Act, page: gr.Blocks) -> None:
    """Lay out the page in the present Blocks context and wire it."""
    flow = ChatFlow(workbench)
    session = gr.State(Session())
    conversation = gr.Textbox(visible=False, elem_id=ids.CONVERSATION_ID)

    with gr.Row(elem_id=ids.PAGE_CHAT, elem_classes=["page"]):
        with gr.Column(elem_id="sidebar", elem_classes=["drawer"], min_width=0):
            new_chat = gr.Button("New chat", elem_id=ids.NEW_CHAT, size="md")
            conversations = panel(ids.CONVERSATIONS, act, events=["open", "refresh"])
        with gr.Column(elem_id="chat-column", min_width=0):
            with gr.Row(elem_id="chat-bar"):
                gr.HTML(_drawer_button("sidebar", "Conversations", "☰"), apply_default_css=False)
                with gr.Column(min_width=0):
                    model = gr.Dropdown([], value=None, label="Model", elem_id=ids.MODEL, show_label=False)
                    note = gr.HTML(elem_id=ids.MODEL_NOTE, apply_default_css=False)
                gr.HTML(_drawer_button(ids.SETTINGS, "Settings", "Settings"), apply_default_css=False)
            warming = panel(ids.WARMING, act, events=["residency"])
            chat = gr.Chatbot(
                elem_id=ids.CHAT,
                label="Conversation",
                show_label=False,
                placeholder=GREETING,
                height="100%",
                layout="panel",
                buttons=[],
                feedback_options=None,
                allow_tags=False,
                latex_delimiters=[
                    {"left": "$$", "right": "$$", "display": True},
                    {"left": "\\[", "right": "\\]", "display": True},
                    {"left": "\\(", "right": "\\)", "display": False},
                ],
            )
            with gr.Row(elem_id="composer"):
                message = gr.Textbox(
                    elem_id=ids.MESSAGE,
                    label="Message",
                    show_label=False,
                    placeholder="Write a message",
                    lines=1,
                    max_lines=8,
                    autofocus=True,
                    container=False,
                )
                send = gr.Button("Send", variant="primary", elem_id=ids.SEND, min_width=0, scale=0)
                stop = gr.Button("Stop", variant="stop", elem_id=ids.STOP, min_width=0, scale=0)
        with gr.Column(elem_id=ids.SETTINGS, elem_classes=["drawer"], min_width=0):
            system = gr.Textbox(
                label="System prompt",
                elem_id=ids.SYSTEM,
                lines=3,
                max_lines=10,
                placeholder="How the model should behave",
            )
            fields = [
                gr.Textbox(
                    label=parameter.label,
                    info=parameter.hint,
                    placeholder="default",
                    elem_id=ids.parameter(parameter.name),
                )
                for parameter in PARAMETERS
            ]

    shown = [chat, message, conversation, conversations, model, system]
    outputs = Outputs()

    @shows(outputs)
    def send_turn(tab: Session, text: str, *rest: Any) -> Views:
        name, current, prompt, *values = rest
        return flow.send(tab, Turn(text, name, int(current) if current else None, prompt, values))

    @shows(outputs)
    def open_conversation(tab: Session, event: gr.EventData) -> Views:
        return flow.open(tab, str(event._data or ""))

    @shows(outputs)
    def new_conversation(tab: Session) -> Views:
        return flow.open(tab, "")

    @shows(outputs)
    def refresh_list(tab: Session, current: str) -> Views:
        return flow.refresh(tab, current or "")

    def with_models(view: ChatView) -> tuple[Any, ...]:
        models = workbench.models
        name = view.model or _first_choice(models)
        picker = gr.Dropdown(choices=render.model_choices(models), value=name)
        return (*outputs(view)[:4], picker, view.system, render.model_note(_find(models, name)))

    @shows(with_models)
    def arrive(tab: Session, wanted: str) -> Views:
        return flow.open(tab, wanted or "")

    @while_running
    def update_models(name: str | None) -> tuple[Any, str]:
        models = workbench.models
        known = _find(models, name)
        kept = {} if known or not name else {"value": None}  # the model that was picked is gone
        return gr.Dropdown(choices=render.model_choices(models), **kept), render.model_note(known)

    @while_running
    def describe(name: str | None) -> str:
        return render.model_note(_find(workbench.models, name))

    def stop_answer(tab: Session) -> None:
        tab.stop()

    opened = "id => workbench.conversationOpened(id)"
    page.load(
        arrive, [session, conversation], [*shown, note], js="(tab) => [tab, workbench.wanted()]", **PRIVATE
    ).then(fn=None, inputs=[conversation], js=opened)
    sending = gr.on(
        [message.submit, send.click],
        send_turn,
        [session, message, model, conversation, system, *fields],
        shown,
        js="(...inputs) => workbench.answerBegins(inputs)",
        **PRIVATE,
    )
    sending.then(fn=None, inputs=[conversation], js="id => workbench.answerEnds(id)")
    stop.click(stop_answer, [session], **PRIVATE)
    for trigger, handler, inputs in (
        (conversations.open, open_conversation, [session]),
        (conversations.refresh, refresh_list, [session, conversation]),
        (new_chat.click, new_conversation, [session]),
    ):
        trigger(handler, inputs, shown, **PRIVATE).then(fn=None, inputs=[conversation], js=opened)
    # "always_last": a move while choices are on their way would otherwise not be shown before the next.
    warming.residency(update_models, [model], [model, note], trigger_mode="always_last", **PRIVATE)
    model.change(describe, [model], [note], **PRIVATE)


def while_running(listener: Callable[[str | None], Any]) -> Callable[[str | None], Any]:
    """Leave the page as it is when Workbench is shutting down: the banner tells, not a traceback."""

    @wraps(listener)
    def guarded(name: str | None) -> Any:
        try:
            return listener(name)
        except ShuttingDownError:
            return gr.skip()

    return guarded


def shows(update: Callable[[ChatView], tuple[Any, ...]]) -> Callable[[Callable[..., Views]], Listener]:
    """Make a step of the chat a listener that sends each view as an update of its outputs.

    No use of Gradio's `cancels` to end an answer whose tab leaves: the browser asks for it after the next
    conversation has come, too late to keep the answer from overwriting it. See `Session.page` instead.
    """

    def decorate(step: Callable[..., Views]) -> Listener:
        @wraps(step)
        async def listener(*inputs: Any) -> AsyncIterator[Any]:
            async with aclosing(step(*inputs)) as views:
                async for view in views:
                    yield update(view)
            yield gr.skip()  # Gradio repeats the last update at the end, which may be after the next step

        return listener

    return decorate


class Outputs:
    """Turns a view into values for chat, message box, conversation, list, model and system prompt.

    Made while the page is built: inside a handler Gradio makes updates of components, not components.
    """

    def __init__(self) -> None:
        html = gr.HTML(render=False, js_on_load=None, apply_default_css=False)
        self._block = {
            "type": "component",
            "component": "html",
            "constructor_args": {},
            "props": html.get_config(),
        }

    def __call__(self, view: ChatView) -> tuple[Any, ...]:
        messages = None if view.messages is None else [self._message(message) for message in view.messages]
        values = (messages, view.text, view.conversation, view.conversations, view.model, view.system)
        return tuple(gr.skip() if value is None else value for value in values)

    def _message(self, message: Message) -> dict[str, Any]:
        role, blocks = message
        content = [
            {"type": "text", "text": value} if kind == "text" else {**self._block, "value": value}
            for kind, value in blocks
        ]
        return {"role": role, "content": content}


def _drawer_button(target: str, label: str, text: str) -> str:
    return (
        f'<button type="button" class="drawer-button" data-drawer="{target}" aria-controls="{target}" '
        f'aria-label="{label}">{text}</button>'
    )


def _find(models: Sequence[ModelView], name: str | None) -> ModelView | None:
    return next((model for model in models if model.name == name), None)


def _first_choice(models: Sequence[ModelView]) -> str | None:
    """The model that a new page begins with: one that serves, or else the first that could."""
    order = list(RESIDENCY_LABELS)
    able = [model for model in models if model.residency in SERVABLE]
    able.sort(key=lambda model: (order.index(model.residency), model.name.lower()))
    return able[0].name if able else None
