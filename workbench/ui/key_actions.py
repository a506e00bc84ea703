"""What the Keys page asks for; requests and replies are those of `actions`."""

from collections.abc import Awaitable, Callable
from typing import Literal

from workbench.errors import BadRequestError
from workbench.service import Workbench
from workbench.ui.actions import Reply, Request, ask, done
from workbench.values import Limits


class KeyActions:
    """One method for each action."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench

    def known(self) -> dict[str, Callable[[Request], Awaitable[Reply]]]:
        """The actions by name."""
        return {action.__name__: action for action in (self.create_key, self.revoke_key)}

    async def create_key(self, request: Request) -> Reply:
        limits = Limits(
            requests_per_minute=_number(request, "requests_per_minute"),
            tokens_per_day=_number(request, "tokens_per_day"),
            concurrency=_number(request, "concurrency"),
        )
        name = request["name"].strip()
        scope: Literal["chat", "admin"] = "admin" if request.get("scope") == "admin" else "chat"
        secret = await self._workbench.access.create(name, scope, limits)
        return {
            "tell": {
                "text": f"The key “{name}”",
                "more": "Copy it now: it is not kept, and can't be shown again.",
                "secret": secret,
            }
        }

    async def revoke_key(self, request: Request) -> Reply:
        name = request["name"]
        if "confirmed" not in request:
            more = (
                "Programs that use it are refused from now on, and browsers signed in with it are signed out."
            )
            views = self._workbench.access.listed()
            admins = [view.name for view in views if view.scope == "admin"]
            if self._workbench.access.required and admins == [name]:
                more += " It is the last key of an administrator: another is made when Workbench starts anew."
            return ask(f"Revoke the key “{name}”?", "Revoke", more=more)
        await self._workbench.access.revoke(name)
        return done(f"The key “{name}” is revoked.")


def _number(request: Request, name: str) -> int | None:
    text = request.get(name, "").strip()
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise BadRequestError(f"The limit “{text[:40]}” is not a whole number.") from error
