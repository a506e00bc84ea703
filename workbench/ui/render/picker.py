"""What the model menu of the chat shows; plain data, which the script puts on the page as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.ui import figures
from workbench.ui.parameters import own_defaults
from workbench.ui.render.parts import RESIDENCY_LABELS, SERVABLE
from workbench.values import ModelView, Progress, Residency, WaiterSnapshot

NOT_HERE = ("hub", "downloading", "broken")

TOOLS: Mapping[Residency, tuple[tuple[str, str], ...]] = {
    "disk": (("load", "Load"),),
    "asleep": (("load", "Wake"), ("unload", "Unload")),
    "device": (("unload", "Unload"),),
    "hub": (("download", "Download"),),
    "downloading": (("cancel", "Cancel"),),
}
"""What can be done with a model from the menu: the action and its label."""


def models(
    views: Iterable[ModelView], estimates: Mapping[str, float], waiters: Iterable[WaiterSnapshot] = ()
) -> list[dict[str, Any]]:
    """Models for the menu: what is here first, then by name. `waiters` tells which of them are on their way.

    A switch moves no model in the list, or a person could hit another than the one aimed at.
    """
    ranked = sorted(views, key=lambda model: (model.residency in NOT_HERE, model.name.lower()))
    waits = {waiter.model: waiter for waiter in waiters}
    shown = [_model(model, estimates.get(model.name)) for model in ranked]
    return [model | _wait(waits[model["name"]]) if model["name"] in waits else model for model in shown]


def _wait(waiter: WaiterSnapshot) -> dict[str, Any]:
    """What a model on its way shows instead: how far it is, since when, and that it can be given up."""
    return {
        "facts": _measured(waiter.progress),
        "since": waiter.since,
        "tools": (("cancel_load", "Cancel"),),
    }


def _measured(progress: Progress) -> str:
    if not progress.total_bytes:
        return progress.detail
    return f"{progress.detail} {figures.size_of(progress.done_bytes, progress.total_bytes)}"


def _model(model: ModelView, estimate_s: float | None) -> dict[str, Any]:
    if model.residency == "downloading" and model.download_total_bytes:
        facts = [figures.size_of(model.download_done_bytes, model.download_total_bytes)]
    elif model.residency == "hub":
        facts = [part for part in (model.description, figures.size(model.weight_bytes)) if part != "0 B"]
    else:
        facts = [figures.size(model.weight_bytes)] if model.weight_bytes else []
    if model.context_length and model.residency not in NOT_HERE:
        facts.append(f"{figures.context(model.context_length)} context")
    if estimate_s is not None:
        facts.append(f"switch takes about {figures.seconds(estimate_s)}")
    return {
        "name": model.name,
        "residency": model.residency,
        "label": RESIDENCY_LABELS[model.residency],
        "facts": " · ".join(facts),
        "note": _note(model),
        "servable": model.residency in SERVABLE,
        "tools": TOOLS.get(model.residency, ()),
        "context": model.served_length,
        "defaults": own_defaults(model.defaults),
    }


def _note(model: ModelView) -> str:
    """What the model is, or why it can't be used yet."""
    match model.residency:
        case "broken":
            return f"{model.name} can’t be served. {model.error}"
        case "downloading":
            return f"{model.name} is still downloading."
        case "hub":
            return f"{model.name} is not downloaded yet."
    return model.description
