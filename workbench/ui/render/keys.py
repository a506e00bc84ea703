"""The Keys page: keys with what they may use, and the form that makes one."""

import time
from collections.abc import Sequence
from html import escape

from workbench.ui.render.parts import Row, age, button, table
from workbench.values import KeyView

SCOPE_WORDS = {"chat": "chat", "admin": "chat and admin"}


def keys(views: Sequence[KeyView], required: bool, to_monotonic: float) -> str:
    """Every key, and whether one is needed at all.

    Args:
        views: the keys.
        required: whether one is asked for.
        to_monotonic: what makes Unix seconds those of `time.monotonic`, which ages are counted by.
    """
    note = (
        ""
        if required
        else '<p class="empty">No key is asked for here (<code>--require-keys</code>). '
        "Who shows one is held to its limits all the same.</p>"
    )
    if not views:
        return f'{note}<p class="empty">There are no keys yet.</p>'
    return note + table("Keys", "key", [_key(view, to_monotonic) for view in views])


def _key(view: KeyView, to_monotonic: float) -> Row:
    now = time.monotonic()
    used = f"{age(view.last_used_at + to_monotonic, now)} ago" if view.last_used_at else "never"
    return (
        view.name,
        {
            "Key": f"<strong>{escape(view.name)}</strong>"
            f'<span class="quiet source">{escape(view.prefix)}…</span>',
            "May": SCOPE_WORDS[view.scope],
            "Limits": _limits(view),
            "Last use": used,
            "Created": f"{age(view.created_at + to_monotonic, now)} ago",
            "": button("revoke_key", "Revoke", view.name, name=view.name),
        },
    )


def _limits(view: KeyView) -> str:
    limits = view.limits
    told = [
        f"{limits.requests_per_minute:,} requests a minute" if limits.requests_per_minute else "",
        f"{view.tokens_today:,} of {limits.tokens_per_day:,} tokens today" if limits.tokens_per_day else "",
        f"{limits.concurrency:,} at a time" if limits.concurrency else "",
    ]
    lines = "".join(f"<span>{text}</span>" for text in told if text)
    return lines or f'<span class="quiet">none ({view.tokens_today:,} tokens today)</span>'


def add_key() -> str:
    """The form that makes a key."""
    return (
        '<form class="card" data-do="create_key">'
        '<label>Name<input name="name" placeholder="who uses it" autocomplete="off" maxlength="80" required>'
        "</label>"
        '<label>May<select name="scope"><option value="chat">chat: ask models</option>'
        '<option value="admin">chat and admin: also change models, pool and keys</option></select></label>'
        f"{_limit('Requests a minute', 'requests_per_minute')}"
        f"{_limit('Tokens a day', 'tokens_per_day')}"
        f"{_limit('Requests at a time', 'concurrency')}"
        '<button class="primary">Create</button></form>'
    )


def _limit(label: str, name: str) -> str:
    return (
        f'<label>{label}<input name="{name}" type="number" min="1" step="1" placeholder="no limit" '
        'inputmode="numeric" autocomplete="off"></label>'
    )
