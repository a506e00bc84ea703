"""Conversations as files: JSON with everything, and Markdown to read, which can be imported as well."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from workbench.catalog.tables import Conversation, Figures, Message
from workbench.errors import BadRequestError

Format = Literal["json", "markdown"]
MAX_IMPORT_CHARACTERS = 50_000_000
TITLE_CHARACTERS = 200

_MARK = re.compile(r"^<!-- workbench: (system|user|assistant)(?: (.*?))? -->$", re.MULTILINE)
_MARKER, _MASKED = "<!-- workbench:", "<!--\\ workbench:"
_SPEAKERS = {"system": "System prompt", "user": "You"}


class Turn(Figures):
    """A turn in a file; other programs' files have only `role` and `content`."""

    role: Literal["system", "user", "assistant"]
    content: str = ""
    model: str = ""
    created_at: float | None = None
    error: str = ""
    versions: list["Turn"] = Field(default_factory=list)
    version: int = Field(0, ge=0)
    compared: bool = False

    def message(self) -> Message:
        values = self.model_dump(exclude={"versions"}, exclude_none=True)
        message = Message(**values)
        if self.role == "assistant" and self.version < len(self.versions):
            message.versions = [turn.message().as_version() for turn in self.versions]
        else:
            message.version, message.compared = 0, False
        return message


class File(BaseModel):
    """A conversation in a JSON file; the form is that of chat requests, with more fields."""

    title: str = ""
    model: str = ""
    system: str = ""
    options: dict[str, Any] = {}
    created_at: float | None = None
    messages: list[Turn]


def to_json(conversation: Conversation, messages: Sequence[Message]) -> str:
    """Everything that is kept of a conversation."""
    file = File(
        title=conversation.title,
        model=conversation.model,
        system=conversation.system,
        options=conversation.options,
        created_at=conversation.created_at,
        messages=[_turn(message) for message in messages],
    )
    return file.model_dump_json(indent=1, exclude_defaults=True)


def _turn(message: Message) -> Turn:
    versions = [Turn(role="assistant", **version) for version in message.versions]
    if versions:
        versions[message.version] = Turn(role="assistant", **message.as_version())
    return Turn(
        role=message.role,
        versions=versions,
        version=message.version,
        compared=message.compared,
        **message.as_version(),
    )


def to_markdown(conversation: Conversation, messages: Sequence[Message]) -> str:
    """What was said, to read; comments mark where a turn begins."""
    parts = [f"# {conversation.title}"]
    if conversation.system:
        parts.append(_marked("system", "", conversation.system))
    parts += [_marked(message.role, message.model, message.content) for message in messages]
    return "\n\n".join(parts) + "\n"


def _marked(role: str, model: str, text: str) -> str:
    speaker = _SPEAKERS.get(role, model)
    mark = f"{role} {model}" if role == "assistant" else role
    return f"{_MARKER} {mark} -->\n**{speaker}**\n\n{text.replace(_MARKER, _MASKED)}"


def from_text(text: str) -> tuple[Conversation, list[Message]]:
    """Read a file of either form.

    Raises:
        BadRequestError: it is neither, or holds no turns.
    """
    if len(text) > MAX_IMPORT_CHARACTERS:
        raise BadRequestError(
            f"The file has {len(text):,} characters; {MAX_IMPORT_CHARACTERS:,} can be read."
        )
    file = _from_json(text) if text.lstrip()[:1] in ("{", "[") else _from_markdown(text)
    system = file.system or next((turn.content for turn in file.messages if turn.role == "system"), "")
    turns = [turn.message() for turn in file.messages if turn.role != "system"]
    if not turns:
        raise BadRequestError("The file has no messages. Choose one that was exported from here.")
    model = file.model or next((turn.model for turn in reversed(turns) if turn.model), "")
    first = next((turn.content for turn in turns if turn.role == "user"), "Imported")
    title = (file.title or " ".join(first.split()))[:TITLE_CHARACTERS]
    conversation = Conversation(title=title, model=model, system=system, options=file.options)
    if file.created_at is not None:
        conversation.created_at = file.created_at
    return conversation, turns


def _from_json(text: str) -> File:
    try:
        data = json.loads(text)
        return File.model_validate({"messages": data} if isinstance(data, list) else data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(f"The file is no conversation: {place}: {first['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The file is no valid JSON: {error}.") from error


def _from_markdown(text: str) -> File:
    marks = list(_MARK.finditer(text))
    if not marks:
        raise BadRequestError(
            "The file is no conversation that was exported from here: it is no JSON, and in Markdown each "
            "turn begins with a comment such as <!-- workbench: user -->."
        )
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = []
    for mark, end in zip(marks, ends, strict=True):
        body = text[mark.end() : end].strip("\n")
        said = body.partition("\n\n")[2] if body.startswith("**") else body
        content = said.replace(_MASKED, _MARKER)
        turns.append(Turn.model_validate({"role": mark[1], "model": mark[2] or "", "content": content}))
    title = re.match(r"# (.*)", text)
    return File(title=title[1].strip() if title else "", messages=turns)
