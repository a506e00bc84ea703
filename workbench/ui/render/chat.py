"""The Chat page: messages, what is said below and in place of them, the list of conversations."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from workbench.service import AnswerStats, ConversationView, ModelView, Progress
from workbench.ui import figures
from workbench.ui.answer import Answer
from workbench.ui.render.parts import RESIDENCY_LABELS, SERVABLE, bar, button, measured

NOT_HERE = ("hub", "downloading", "broken")


def model_choices(models: Iterable[ModelView]) -> list[tuple[str, str]]:
    """(label, name) for the model dropdown: what is here first, then by name.

    A switch moves no model in the list, or a person could hit another than the one aimed at.
    """
    ranked = sorted(models, key=lambda model: (model.residency in NOT_HERE, model.name.lower()))
    return [(f"{model.name}  ·  {RESIDENCY_LABELS[model.residency]}", model.name) for model in ranked]


def model_note(model: ModelView | None) -> str:
    """The line under the model dropdown: what the model is, or why it can't be used yet."""
    if model is None:
        return "Pick a model to chat with."
    if model.residency in SERVABLE:
        context = f"{figures.context(model.context_length)} context"
        facts = [model.description, figures.size(model.weight_bytes), context]
        return " · ".join(escape(fact) for fact in facts if fact)
    if model.residency == "broken":
        return f'<span class="bad">{escape(model.name)} can’t be served. {escape(model.error)}</span>'
    verb = "is still downloading" if model.residency == "downloading" else "is not downloaded yet"
    return f'{escape(model.name)} {verb}. <a href="models">See it on the Models page</a>'


def user_text(text: str) -> str:
    """What the person wrote, to the letter: no Markdown, no markup."""
    return f'<div class="said">{escape(text)}</div>'


_CODE = re.compile(r"^( *)(```+|~~~+).*?(?:^\1? *\2|\Z)|(`+)(?!`).+?(?<!`)\3(?!`)", re.DOTALL | re.MULTILINE)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def model_text(markdown: str) -> str:
    """An answer for the chat's Markdown renderer, with tags outside of code shown as they were written.

    The renderer would drop what it does not allow, and apply the rest: an answer about HTML would lose its
    point, and any answer could draw what looks like a part of the page.
    """
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_TAG.sub("&lt;", markdown[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, _TAG.sub("&lt;", markdown[end:])])


def waiting(progress: Progress | None, elapsed_s: float) -> str:
    """In place of an answer that has not begun: what it waits for, how far that is, for how long."""
    what, share = "Asking the model", ""
    if progress:
        what = measured(progress)
        if progress.total_bytes:
            share = bar(figures.percent(progress.done_bytes, progress.total_bytes), "Progress")
    return (
        '<div class="waiting" data-testid="waiting"><span class="pulse" aria-hidden="true"></span>'
        f'<span>{what}</span><span class="figure quiet">{int(elapsed_s)} s</span>{share}</div>'
    )


def growing_line(answer: Answer, now: float) -> str:
    """The line under an answer that is being written."""
    parts = [escape(answer.model), figures.count(answer.token_count, "token")]
    if answer.token_count > 1:
        parts.append(figures.rate(answer.tokens_per_s(now)))
    if answer.first_token_at is not None:
        parts.append(f"first token after {figures.seconds(answer.first_token_at - answer.started_at)}")
    return _stats(parts)


def stats_line(model: str, stats: AnswerStats, failed: bool = False) -> str:
    """The line under a finished answer: model, tokens, speed, TTFT, what a switch cost, how it ended."""
    parts = [escape(model), figures.count(stats.completion_tokens, "token")]
    if stats.tokens_per_s > 0:
        parts.append(figures.rate(stats.tokens_per_s))
    parts.append(f"first token after {figures.seconds(stats.ttft_s)}")
    if stats.switch_s > 0:
        reason = f" ({escape(stats.switch_reason)})" if stats.switch_reason else ""
        parts.append(f'<span class="switched">switched in {figures.seconds(stats.switch_s)}{reason}</span>')
    endings = {"length": "cut at the token limit", "abort": "stopped"}
    if stats.finish_reason in endings and not failed:
        parts.append(endings[stats.finish_reason])
    return _stats(parts)


def error_note(sentence: str) -> str:
    """What went wrong, in place of an answer or below what there is of it."""
    return f'<div class="error" role="alert" data-testid="error">{escape(sentence)}</div>'


def stopped_note() -> str:
    """In place of an answer that was stopped before its first token."""
    return '<div class="stats" data-testid="stats">Stopped before the answer began.</div>'


def conversation_list(conversations: Sequence[ConversationView], open_id: int | None) -> str:
    """Links that open conversations, with buttons to rename and delete."""
    if not conversations:
        return '<p class="empty">No conversations yet. What you write is kept here.</p>'
    items = []
    for conversation in conversations:
        title = escape(conversation.title or "New conversation")
        current = ' aria-current="true"' if conversation.id == open_id else ""
        items.append(
            f'<li data-testid="conversation" data-name="{title}">'
            f'<a href="?chat={conversation.id}" data-open="{conversation.id}"{current}>'
            f'<span class="title">{title}</span><span class="quiet">{escape(conversation.model)}</span></a>'
            + button("rename", "Rename", conversation.title, icon="✎", conversation=conversation.id)
            + button("delete", "Delete", conversation.title, icon="✕", conversation=conversation.id)
            + "</li>"
        )
    return f"<ul>{''.join(items)}</ul>"


def _stats(parts: Iterable[str]) -> str:
    return f'<div class="stats" data-testid="stats">{" · ".join(parts)}</div>'
