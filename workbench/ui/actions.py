"""What the buttons and forms of the live panels ask for.

A request is a JSON object: `do` names the action, the rest are its values as strings. The answer is one of
`{"done": sentence}`, perhaps with the path of a file to `download`, `{"error": sentence}`, `{"show": {…}}`,
an update of the page, and `{"ask": {…}}`. The last is a dialog to show; its answers are added to the request,
with `confirmed`, and the request is sent again. Whether work is in flight is never read here: the owner of
the state refuses, and its refusal becomes the question. What changes the pool, the models or the keys needs a
caller with the scope `admin`; the page hides it from others, and here it is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import PurePath
from typing import Any

import structlog

from workbench.errors import BadRequestError, ConflictError, WorkbenchError
from workbench.service import Workbench
from workbench.values import Caller

log = structlog.get_logger("workbench.ui")

Request = Mapping[str, str]
Reply = dict[str, Any]
Action = Callable[[Request], Awaitable[Reply]]
Act = Callable[..., Awaitable[Reply]]
"""Takes a request, and who makes it; panels hand it to Gradio, which calls it with the request alone."""

ADMIN_ACTIONS = frozenset(
    {
        "load",
        "cancel_load",
        "unload",
        "pin",
        "drain",
        "restart",
        "profile",
        "download",
        "cancel",
        "remove",
        "add_hub",
        "add_local",
        "create_key",
        "revoke_key",
    }
)
"""What only administrators may ask for."""

PROFILE_S = 5.0
PROFILE_STEPS = 100


def sentence(error: Exception) -> str:
    """What a person reads of an error; one that was not meant for people goes to the log."""
    if isinstance(error, WorkbenchError):
        return str(error)
    log.error("unexpected error behind the page", exc_info=error)
    return f"Something went wrong inside Workbench: {type(error).__name__}. The log has the details."


def build_act(workbench: Workbench, more: Mapping[str, Action]) -> Callable[[Any, Caller], Awaitable[Reply]]:
    """The function behind every button and form of the page; `more` are actions of single pages."""
    actions = Actions(workbench, more)

    async def act(request: Any, caller: Caller) -> Reply:
        try:
            return await actions.carry_out(request, caller)
        except Exception as error:
            return {"error": sentence(error)}

    return act


class Actions:
    """One method for each action; values are those of the button or form."""

    def __init__(self, workbench: Workbench, more: Mapping[str, Action]) -> None:
        self._workbench = workbench
        self._loads: dict[str, set[asyncio.Future[None]]] = {}
        """Loads that somebody has asked for by hand, by model."""
        self._known: dict[str, Action] = dict(more) | {
            action.__name__: action
            for action in (
                self.load,
                self.cancel_load,
                self.unload,
                self.pin,
                self.drain,
                self.restart,
                self.profile,
                self.download,
                self.cancel,
                self.remove,
                self.add_hub,
                self.add_local,
            )
        }

    async def carry_out(self, request: Any, caller: Caller) -> Reply:
        if not isinstance(request, dict) or request.get("do") not in self._known:
            raise BadRequestError(
                "The page asked for something this Workbench doesn't know. Reload the page."
            )
        if request["do"] in ADMIN_ACTIONS:
            caller.demand("admin")
        return await self._known[request["do"]]({key: str(value) for key, value in request.items()})

    async def load(self, request: Request) -> Reply:
        """Wait until it serves, or until `cancel_load`."""
        model = request["model"]
        load = asyncio.ensure_future(self._workbench.load(model))
        loads = self._loads.setdefault(model, set())
        loads.add(load)
        try:
            await asyncio.wait({load})
        finally:
            load.cancel()  # whoever asked has left
            loads.discard(load)
        if load.cancelled():
            return done(f"The load of {model} is cancelled.")
        load.result()
        return done(f"{model} is serving.")

    async def cancel_load(self, request: Request) -> Reply:
        model = request["model"]
        if not self._loads.get(model):
            raise ConflictError(f"{model} is on its way for a message. Stop that message instead.")
        for load in self._loads[model]:
            load.cancel()
        return {"show": {}}

    async def unload(self, request: Request) -> Reply:
        try:
            await self._workbench.unload(request["model"], force="confirmed" in request)
        except ConflictError as conflict:
            return ask(f"Unload {request['model']}?", "Unload anyway", more=str(conflict))
        return done(f"{request['model']} is unloaded.")

    async def pin(self, request: Request) -> Reply:
        pinned = request["pinned"] == "yes"
        await self._workbench.pool_admin.pin(request["model"], pinned)
        if pinned:
            return done(f"{request['model']} is pinned: it gives way to no other model.")
        return done(f"{request['model']} is unpinned: it gives way when others need its room.")

    async def drain(self, request: Request) -> Reply:
        try:
            await self._workbench.pool_admin.drain(request["worker"], force="confirmed" in request)
        except ConflictError as conflict:
            return ask(f"Drain {request['worker']}?", "Drain", more=str(conflict), calm=True)
        return done(f"{request['worker']} is being drained.")

    async def restart(self, request: Request) -> Reply:
        try:
            await self._workbench.pool_admin.restart(request["worker"], force="confirmed" in request)
        except ConflictError as conflict:
            return ask(f"Restart {request['worker']}?", "Restart anyway", more=str(conflict))
        return done(f"{request['worker']} restarts.")

    async def profile(self, request: Request) -> Reply:
        worker = request["worker"]
        if "confirmed" not in request:
            more = (
                f"What its engine does in the next {PROFILE_S:.0f} s, at most {PROFILE_STEPS} steps, is "
                "recorded, which slows it down; ask it something meanwhile. Perfetto shows the trace."
            )
            return ask(f"Profile {worker}?", "Record and download", more=more, calm=True)
        profiles = self._workbench.pool_admin.profiles
        begun = await profiles.start(worker, PROFILE_S, PROFILE_STEPS)
        profile = await profiles.ended(begun.name)
        if profile.error:
            return {"error": f"{worker} gave no profile: {profile.error}"}
        return done(f"The profile of {worker} is downloaded.") | {
            "download": f"admin/profiles/{profile.name}/trace"
        }

    async def download(self, request: Request) -> Reply:
        await self._workbench.download(request["model"])
        return done(f"{request['model']} is downloading.")

    async def cancel(self, request: Request) -> Reply:
        await self._workbench.cancel_download(request["model"])
        return done("The download is cancelled; what has arrived is kept.")

    async def remove(self, request: Request) -> Reply:
        name = request["model"]
        if "confirmed" not in request:
            delete = {"name": "delete_files", "label": "Delete its files from the disk, too"}
            model = self._workbench.model(name)
            downloaded = model.residency != "hub" and not PurePath(model.source).is_absolute()
            extra = {"option": delete} if downloaded else {}
            return ask(f"Remove {name} from the catalog?", "Remove", **extra)
        await self._workbench.remove_model(name, delete_files="delete_files" in request)
        return done(f"{name} is removed.")

    async def add_hub(self, request: Request) -> Reply:
        model = await self._workbench.add_hub_model(request["repo_id"].strip(), request["revision"].strip())
        return done(f"{model.name} is added and downloading.")

    async def add_local(self, request: Request) -> Reply:
        model = await self._workbench.add_local_model(request["folder"].strip(), request["name"].strip())
        return done(f"{model.name} is added.")


def done(text: str) -> Reply:
    """It is done, in a sentence."""
    return {"done": text}


def ask(text: str, button: str, **extra: Any) -> Reply:
    """A dialog: a question, the button that confirms, and optionally an explanation (`more`), a text `field`
    and an `option` to tick; `calm` where nothing is lost."""
    return {"ask": {"text": text, "button": button, **extra}}
