"""What the renderers of all pages share."""

from collections.abc import Mapping, Sequence
from html import escape

from workbench.ui import figures
from workbench.values import Progress, Residency

RESIDENCY_LABELS: Mapping[Residency, str] = {
    "device": "serving",
    "waking": "waking",
    "loading": "loading",
    "sleeping": "falling asleep",
    "asleep": "asleep",
    "unloading": "unloading",
    "disk": "on disk",
    "downloading": "downloading",
    "hub": "not downloaded",
    "broken": "can't be served",
}
SERVABLE: frozenset[Residency] = frozenset(
    {"device", "waking", "loading", "sleeping", "asleep", "unloading", "disk"}
)
"""Residencies from which a chat can begin."""


Row = tuple[str, Mapping[str, str]]
"""What a table row is about, and its cells as ready HTML by column head."""

NUMBERS = frozenset(
    {
        "Memory",
        "On device",
        "Age",
        "Swaps",
        "In flight",
        "Size",
        "Context",
        "Allocated",
        "Used",
        "Wasted",
        "More fit",
    }
)
"""Heads of columns that are set flush right."""


def badge(kind: str, text: str) -> str:
    """A state in words, with a dot in the colour of its kind, a residency."""
    return f'<span class="badge badge-{escape(kind)}">{escape(text)}</span>'


def bar(percent: int, label: str) -> str:
    """A bar that is filled to `percent`."""
    return (
        f'<span class="bar" role="progressbar" aria-label="{escape(label)}" aria-valuenow="{percent}" '
        f'aria-valuemin="0" aria-valuemax="100"><i style="width:{percent}%"></i></span>'
    )


def age(since: float, now: float) -> str:
    """The time since a moment, which the script counts on; both are of the clock `time.monotonic`."""
    return f'<span class="figure" data-since="{since:.2f}">{figures.duration(max(0.0, now - since))}</span>'


def measured(progress: Progress) -> str:
    """What goes on, and how far it is where that is known."""
    detail = escape(progress.detail)
    if not progress.total_bytes:
        return detail
    return (
        f'{detail} <span class="figure">{figures.size_of(progress.done_bytes, progress.total_bytes)}</span>'
    )


def button(do: str, label: str, thing: str, icon: str = "", **values: object) -> str:
    """A button that asks the server to `do` something with `values`; `thing` completes its spoken label."""
    data = "".join(f' data-value-{name}="{escape(str(value))}"' for name, value in values.items())
    return (
        f'<button type="button" data-do="{do}"{data} aria-label="{escape(f"{label} {thing}")}" '
        f'title="{escape(label)}">{icon or escape(label)}</button>'
    )


def table(label: str, kind: str, rows: Sequence[Row]) -> str:
    """A table of at least one row. Heads come along in the cells: on narrow screens rows become cards."""
    actions = '<span class="unseen">Actions</span>'
    heads = "".join(f'<th scope="col"{_align(head)}>{head or actions}</th>' for head in rows[0][1])
    body = "".join(
        f'<tr data-testid="{kind}" data-name="{escape(name)}">{_cells(cells)}</tr>' for name, cells in rows
    )
    return f'<table aria-label="{label}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _cells(cells: Mapping[str, str]) -> str:
    return "".join(f'<td data-head="{head}"{_align(head)}>{cell}</td>' for head, cell in cells.items())


def _align(head: str) -> str:
    return ' class="number"' if head in NUMBERS else ""
