"""The Models page: the catalog, and the forms that add to it."""

from collections.abc import Sequence
from html import escape

from workbench.ui import figures
from workbench.ui.render.parts import RESIDENCY_LABELS, Row, badge, bar, button, table
from workbench.values import ModelView, Residency


def catalog(models: Sequence[ModelView]) -> str:
    """Every model, where it is, and what can be done with it."""
    if not models:
        return '<p class="empty">The catalog is empty. Add a model below.</p>'
    return table("Models", "model", [_model(model) for model in models])


def _model(model: ModelView) -> Row:
    where = badge(model.residency, RESIDENCY_LABELS[model.residency])
    if model.residency == "downloading" and model.download_total_bytes:
        done, total = model.download_done_bytes, model.download_total_bytes
        where += bar(figures.percent(done, total), f"Download of {model.name}")
        where += f'<span class="figure quiet">{figures.size_of(done, total)}</span>'
    if model.error:
        where += f'<span class="bad">{escape(model.error)}</span>'
    return (
        model.name,
        {
            "Model": f"<strong>{escape(model.name)}</strong>"
            f'<span class="quiet">{escape(model.description)}</span>'
            f'<span class="quiet source">{escape(model.source)}</span>',
            "Where": where,
            "Size": _two_lines(
                figures.size(model.weight_bytes) if model.weight_bytes else "",
                f"{figures.parameters(model.parameters)} parameters" if model.parameters else "",
            ),
            "Context": figures.context(model.context_length),
            "Architecture": _two_lines(escape(model.architecture), escape(model.licence)),
            "": "".join(
                button(do, label, model.name, model=model.name) for do, label in _model_actions(model)
            ),
        },
    )


def _two_lines(first: str, second: str) -> str:
    return f'{first or "–"}<span class="quiet second">{second}</span>'


def _model_actions(model: ModelView) -> list[tuple[str, str]]:
    resume = "Resume" if model.download_done_bytes else "Download"
    actions: dict[Residency, list[tuple[str, str]]] = {
        "hub": [("download", resume), ("remove", "Remove")],
        "downloading": [("cancel", "Cancel")],
        "disk": [("load", "Load"), ("remove", "Remove")],
        "device": [("unload", "Unload")],
        "asleep": [("load", "Wake"), ("unload", "Unload")],
        "broken": [("remove", "Remove")],
    }
    return actions.get(model.residency, [])


def add_model() -> str:
    """The two forms that add a model."""
    hub = _field("Model id", "repo_id", "Qwen/Qwen3-0.6B", "required") + _field(
        "Revision", "revision", "main"
    )
    folder = _field("Folder", "folder", "data/models/my-model", "required") + _field(
        "Name", "name", "of the folder"
    )
    return _form("add_hub", "From the Hugging Face hub", hub, "Add and download") + _form(
        "add_local", "From a folder on this machine", folder, "Check and add"
    )


def _form(do: str, title: str, fields: str, button: str) -> str:
    return (
        f'<form class="card" data-do="{do}"><h3>{title}</h3>{fields}'
        f'<button class="primary">{button}</button></form>'
    )


def _field(label: str, name: str, placeholder: str, required: str = "") -> str:
    attributes = f'name="{name}" placeholder="{placeholder}" autocomplete="off" {required}'
    return f"<label>{label}<input {attributes}></label>"
