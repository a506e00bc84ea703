"""What the model menu of the chat shows; plain data, which the script puts on the page as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.ui import figures
from workbench.ui.render.parts import RESIDENCY_LABELS, SERVABLE
from workbench.values import ModelView

NOT_HERE = ("hub", "downloading", "broken")


def models(views: Iterable[ModelView], estimates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Models for the menu: what is here first, then by name.

    A switch moves no model in the list, or a person could hit another than the one aimed at.
    """
    ranked = sorted(views, key=lambda model: (model.residency in NOT_HERE, model.name.lower()))
    return [_model(model, estimates.get(model.name)) for model in ranked]


def _model(model: ModelView, estimate_s: float | None) -> dict[str, Any]:
    facts = [figures.size(model.weight_bytes)] if model.weight_bytes else []
    if model.context_length:
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
        "loads": model.residency in ("disk", "asleep"),
        "leaves": model.residency in ("device", "asleep"),
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
