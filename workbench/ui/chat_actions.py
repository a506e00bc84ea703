"""What the chat page asks for besides answers; requests and replies are those of `actions`."""

from collections.abc import Awaitable, Callable

from workbench.service import Conversations, Workbench
from workbench.ui.actions import Reply, Request, ask, done
from workbench.ui.chat_flow import ChatFlow
from workbench.ui.parameters import PARAMETERS, sampling_options
from workbench.ui.render import chat as render

NAMED = {"field": {"name": "name", "label": "Name", "value": ""}}


class ChatActions:
    """One method for each action."""

    def __init__(self, workbench: Workbench, flow: ChatFlow) -> None:
        self._workbench = workbench
        self._flow = flow

    @property
    def _conversations(self) -> Conversations:
        return self._workbench.conversations

    def known(self) -> dict[str, Callable[[Request], Awaitable[Reply]]]:
        """The actions by name."""
        return {
            action.__name__: action
            for action in (
                self.open_conversation,
                self.list_conversations,
                self.rename,
                self.delete,
                self.restore,
                self.edit,
                self.choose,
                self.branch,
                self.stop,
                self.import_conversation,
                self.list_presets,
                self.use_preset,
                self.save_preset,
                self.delete_preset,
            )
        }

    async def open_conversation(self, request: Request) -> Reply:
        opened = await self._flow.opened(request.get("conversation", ""))
        return {"show": opened | {"list": await self._flow.listed()}}

    async def list_conversations(self, request: Request) -> Reply:
        return {"show": {"list": await self._flow.listed(request.get("search", ""))}}

    async def rename(self, request: Request) -> Reply:
        conversation = int(request["conversation"])
        if "confirmed" not in request:
            title = (await self._conversations.get(conversation)).title
            return ask(
                "Rename the conversation", "Rename", field={"name": "title", "label": "Title", "value": title}
            )
        await self._conversations.rename(conversation, request["title"].strip())
        return done("The conversation is renamed.")

    async def delete(self, request: Request) -> Reply:
        """Without a question, for it can be undone."""
        conversation = int(request["conversation"])
        title = (await self._conversations.get(conversation)).title
        await self._conversations.delete(conversation)
        return {"deleted": f"“{title}” is deleted."}

    async def restore(self, request: Request) -> Reply:
        await self._conversations.restore(int(request["conversation"]))
        return done("The conversation is back.")

    async def edit(self, request: Request) -> Reply:
        await self._conversations.edit(int(request["message"]), request["text"])
        return {"show": {"turns": await self._turn(request)}}

    async def choose(self, request: Request) -> Reply:
        await self._conversations.choose(int(request["message"]), int(request["version"]))
        return {"show": {"turns": await self._turn(request)}}

    async def _turn(self, request: Request) -> list[tuple[str, str]]:
        return await self._flow.turn(int(request["conversation"]), int(request["message"]))

    async def branch(self, request: Request) -> Reply:
        branch = await self._conversations.branch(int(request["message"]))
        return done("This is a branch: what you write here leaves the other conversation as it is.") | {
            "open": str(branch)
        }

    async def stop(self, request: Request) -> Reply:
        self._flow.stop(request["stream"])
        return {"show": {}}

    async def import_conversation(self, request: Request) -> Reply:
        imported = await self._conversations.import_text(request["text"])
        return done("The conversation is imported.") | {"open": str(imported)}

    async def list_presets(self, _request: Request) -> Reply:
        return {"show": {"presets": render.preset_options(await self._conversations.presets())}}

    async def use_preset(self, request: Request) -> Reply:
        for preset in await self._conversations.presets():
            if preset.name == request["name"]:
                return {"show": {"system": preset.system, "options": render.option_texts(preset.options)}}
        return {"error": "That preset is gone: it was deleted in another tab."}

    async def save_preset(self, request: Request) -> Reply:
        options = sampling_options([request.get(parameter.name) for parameter in PARAMETERS])
        if "confirmed" not in request:
            return ask("Save the system prompt and the parameters", "Save", **NAMED)
        given = {
            parameter.name: value
            for parameter in PARAMETERS
            if (value := getattr(options, parameter.name)) is not None
        }
        await self._conversations.save_preset(request["name"], request.get("system", ""), given)
        name = request["name"].strip()
        return done(f"The preset “{name}” is saved.") | await self.list_presets(request) | {"saved": name}

    async def delete_preset(self, request: Request) -> Reply:
        if "confirmed" not in request:
            return ask(f"Delete the preset “{request['name']}”?", "Delete")
        await self._conversations.delete_preset(request["name"])
        return done("The preset is deleted.") | await self.list_presets(request)
