"""The Chat page: the thread's turns, the list of conversations, and what stands around them."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from workbench.ui import figures, ids
from workbench.ui.answer import Answer
from workbench.ui.parameters import PARAMETERS
from workbench.ui.render import markdown
from workbench.ui.render.parts import bar, button, measured
from workbench.values import AnswerStats, ConversationView, MessageView, PresetView, Progress


def _icon(paths: str) -> str:
    return f'<svg viewBox="0 0 16 16" aria-hidden="true"><path d="{paths}"/></svg>'


COPY = _icon("M5.5 5.5h8v8h-8z M10.5 5.5v-3h-8v8h3")
EDIT = _icon("M3 13l.6-2.8L11 2.8l2.2 2.2-7.4 7.4z M9.6 4.2l2.2 2.2")
AGAIN = _icon("M13 8a5 5 0 1 1-1.6-3.7 M13.2 2v2.8h-2.8")
GO_ON = _icon("M2.5 8h8 M7.5 4.5L11 8l-3.5 3.5 M13.5 3.5v9")
BRANCH = _icon("M4.5 2.5v11 M4.5 9.5c4 0 7-1.5 7-5 M11.5 6.5v-4 M9.5 4.5l2-2 2 2")
FRAME = Path(__file__).parents[1] / "static" / "chat.html"
ENDINGS = {"length": "cut at the token limit", "abort": "stopped"}
QUEUE_WORTH_TELLING_S = 0.05


def turn(message: MessageView) -> str:
    """One turn of the thread, with what can be done with it."""
    if message.role == "user":
        return question(message.content, key(message), message)
    if message.compared:
        return _compared(message)
    body = markdown.answer(message.content) + _outcome(message.content, message.stats, message.error)
    tools = [
        _versions(message),
        _tool("copy", "Copy", COPY),
        _tool("edit", "Edit", EDIT),
        _tool("regenerate", "Answer again", AGAIN, last_only=True),
        _tool("continue", "Continue", GO_ON, last_only=True) if message.content else "",
        _tool("branch", "Branch from here", BRANCH),
    ]
    return _article(key(message), "answer", _speaker(message.model) + body, tools, message)


def key(message: MessageView) -> str:
    """Names a turn on the page."""
    return f"turn-{message.id}"


def question(text: str, turn_key: str, message: MessageView | None = None) -> str:
    """What the person wrote, to the letter: no Markdown, no markup; `message` if it is kept already."""
    said = f'<div class="said">{escape(text)}</div>'
    tools = [
        _tool("copy", "Copy", COPY),
        _tool("edit", "Edit", EDIT),
        _tool("branch", "Branch from here", BRANCH),
    ]
    return _article(turn_key, "question", said, tools if message else [], message)


def growing(answers: Sequence[Answer], now: float, turn_key: str, begun: str = "") -> str:
    """Answers that are being written, side by side if there are several; `begun` is there before."""
    bodies = [_growing(answer, now, begun) for answer in answers]
    return _article(turn_key, "answer", bodies[0] if len(bodies) == 1 else _sides(bodies), [])


def _growing(answer: Answer, now: float, begun: str) -> str:
    speaker = _speaker(answer.model)
    text = begun + answer.text
    if answer.error:
        return speaker + markdown.answer(text) + error_note(answer.error)
    if not answer.text:
        waited = waiting(answer.progress, now - answer.started_at)
        return speaker + markdown.answer(text) + ("" if answer.finished else waited)
    if answer.finished:
        return speaker + markdown.answer(text) + stats_line(answer.finished.stats)
    return speaker + markdown.answer(text, growing=True) + growing_line(answer, now)


def refused(text: str, models: Sequence[str], sentence: str) -> list[tuple[str, str]]:
    """The turns of a message that was not taken: it, and why, until the next is sent."""
    speaker = _speaker(" and ".join(models)) if models else ""
    return [
        ("question", question(text, "question")),
        ("answer", _article("answer", "answer", speaker + error_note(sentence), [])),
    ]


def failed(answers: Sequence[Answer], turn_key: str, sentence: str, begun: str = "") -> str:
    """Answers that could not be kept."""
    bodies = [_speaker(each.model) + markdown.answer(begun + each.text) for each in answers]
    body = bodies[0] if len(bodies) == 1 else _sides(bodies)
    return _article(turn_key, "answer", body + error_note(sentence), [])


def _compared(message: MessageView) -> str:
    columns = []
    for number, answer in enumerate(message.versions):
        if number == message.version:
            choice = '<span class="chosen">✓ The conversation goes on with this</span>'
        else:
            choice = _tool("choose", "Go on with this", "", version=number)
        body = markdown.answer(answer.content) + _outcome(answer.content, answer.stats, answer.error)
        columns.append(f'{_speaker(answer.model)}{body}<div class="choice">{choice}</div>')
    tools = [
        _tool("copy", "Copy", COPY),
        _tool("regenerate", "Answer again", AGAIN, last_only=True),
        _tool("branch", "Branch from here", BRANCH),
    ]
    return _article(key(message), "answer", _sides(columns), tools, message)


def _sides(bodies: Iterable[str]) -> str:
    sides = "".join(f'<section class="side" data-testid="side">{body}</section>' for body in bodies)
    return f'<div class="sides">{sides}</div>'


def _article(
    turn_key: str, kind: str, body: str, tools: Sequence[str], message: MessageView | None = None
) -> str:
    data = ""
    if message:
        data = f' data-message="{message.id}" data-text="{escape(message.content)}"'
        if tokens := message.stats.prompt_tokens + message.stats.completion_tokens:
            data += f' data-tokens="{tokens}"'
    shown = f'<div class="tools">{"".join(tools)}</div>' if tools else ""
    return (
        f'<article class="turn {kind}" data-testid="{kind}" data-turn="{turn_key}" tabindex="-1"{data}>'
        f"{body}{shown}</article>"
    )


def _tool(do: str, label: str, icon: str, last_only: bool = False, **values: int) -> str:
    data = "".join(f' data-{name}="{value}"' for name, value in values.items())
    hidden = ' class="last-only"' if last_only else ""
    name = f' aria-label="{label}" title="{label}"' if icon else ""
    return f'<button type="button" data-turn-do="{do}"{data}{hidden}{name}>{icon or label}</button>'


def _versions(message: MessageView) -> str:
    if len(message.versions) < 2:
        return ""
    here, count = message.version, len(message.versions)
    back = _tool("choose", "Earlier version", "‹", version=(here - 1) % count)
    on = _tool("choose", "Later version", "›", version=(here + 1) % count)
    return f'<span class="versions">{back}<span class="figure">{here + 1} / {count}</span>{on}</span>'


def _speaker(model: str) -> str:
    return f'<header class="speaker">{escape(model)}</header>'


def _outcome(content: str, stats: AnswerStats, error: str) -> str:
    """What is below an answer: what went wrong, its figures."""
    parts = [error_note(error, news=False)] if error else []
    if stats.completion_tokens:
        parts.append(stats_line(stats, failed=bool(error)))
    elif not content and not error:
        parts.append('<div class="stats" data-testid="stats">Stopped before the answer began.</div>')
    return "".join(parts)


def waiting(progress: Progress | None, elapsed_s: float) -> str:
    """In place of an answer that has not begun: what it waits for, how far that is, for how long."""
    what, share = "Asking the model", ""
    if progress:
        what = measured(progress)
        if progress.total_bytes:
            share = bar(figures.percent(progress.done_bytes, progress.total_bytes), "Progress")
    return (
        '<div class="waiting" data-testid="waiting"><span class="pulse" aria-hidden="true"></span>'
        f'<span>{what}</span><span class="figure quiet">{elapsed_s:.1f} s</span>{share}</div>'
    )


def growing_line(answer: Answer, now: float) -> str:
    """The line under an answer that is being written."""
    parts = [figures.count(answer.token_count, "token")]
    if rate := answer.tokens_per_s(now):
        parts.append(figures.rate(rate))
    if answer.first_token_at is not None:
        parts.append(f"first token after {figures.seconds(answer.first_token_at - answer.started_at)}")
    return _stats(parts)


def stats_line(stats: AnswerStats, failed: bool = False) -> str:
    """The line under a finished answer: tokens, speed, TTFT, cached prompt, queue, switch, how it ended."""
    parts = [figures.count(stats.completion_tokens, "token")]
    if stats.tokens_per_s > 0:
        parts.append(figures.rate(stats.tokens_per_s))
    parts.append(f"first token after {figures.seconds(stats.ttft_s)}")
    if stats.queue_s >= QUEUE_WORTH_TELLING_S:
        parts.append(f"queued for {figures.seconds(stats.queue_s)}")
    if stats.switch_s > 0:
        reason = f" ({escape(stats.switch_reason)})" if stats.switch_reason else ""
        parts.append(f'<span class="switched">switched in {figures.seconds(stats.switch_s)}{reason}</span>')
    if stats.cached_prompt_tokens:
        parts.append(f"{stats.cached_prompt_tokens:,} of {stats.prompt_tokens:,} prompt tokens from cache")
    if stats.finish_reason in ENDINGS and not failed:
        parts.append(ENDINGS[stats.finish_reason])
    return _stats(parts)


def _stats(parts: Iterable[str]) -> str:
    return f'<div class="stats" data-testid="stats">{" · ".join(parts)}</div>'


def error_note(sentence: str, news: bool = True) -> str:
    """What went wrong, in place of an answer or below what there is of it; screen readers announce news."""
    role = ' role="alert"' if news else ""
    return f'<div class="error"{role} data-testid="error">{escape(sentence)}</div>'


def conversation_list(conversations: Sequence[ConversationView], search: str = "") -> str:
    """Links that open conversations, with buttons to rename and delete."""
    if not conversations:
        if search:
            return f'<p class="empty">Nothing was said about “{escape(search)}”.</p>'
        return '<p class="empty">No conversations yet. What you write is kept here.</p>'
    items = []
    for conversation in conversations:
        title = escape(conversation.title or "New conversation")
        items.append(
            f'<li data-testid="conversation" data-name="{title}" data-key="{conversation.id}">'
            f'<a href="?chat={conversation.id}" data-open="{conversation.id}">'
            f'<span class="title">{title}</span><span class="quiet">{escape(conversation.model)}</span></a>'
            + button("rename", "Rename", conversation.title, icon="✎", conversation=conversation.id)
            + button("delete", "Delete", conversation.title, icon="✕", conversation=conversation.id)
            + "</li>"
        )
    return f"<ul>{''.join(items)}</ul>"


def preset_options(presets: Iterable[PresetView]) -> str:
    """The choices of the preset menu."""
    names = "".join(f"<option>{escape(preset.name)}</option>" for preset in presets)
    return f'<option value="">No preset</option>{names}'


def option_texts(options: Mapping[str, object]) -> dict[str, str]:
    """What the parameter fields show for sampling options."""
    return {
        parameter.name: "" if (value := options.get(parameter.name)) is None else f"{value:g}"
        for parameter in PARAMETERS
        if isinstance(options.get(parameter.name), int | float | None)
    }


def page() -> str:
    """The page's frame, which the script fills."""
    fields = "".join(
        f'<label title="{escape(parameter.hint)}">{escape(parameter.label)}'
        f'<input id="{ids.parameter(parameter.name)}" name="{parameter.name}" placeholder="default" '
        f'inputmode="decimal" autocomplete="off" '
        f'aria-description="{escape(parameter.hint)}; {escape(parameter.allowed)}">'
        f'<small aria-hidden="true">{escape(parameter.allowed)}</small></label>'
        for parameter in PARAMETERS
    )
    return FRAME.read_text("utf-8").replace("<!-- parameters -->", fields)
