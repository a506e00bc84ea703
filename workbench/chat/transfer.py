"""Conversations as files: JSON with everything, and Markdown to read, which can be imported as well."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from workbench.catalog.tables import Conversation, Figures, Message
from workbench.engine.spec import SamplingOptions
from workbench.errors import BadRequestError

Format = Literal["json", "markdown"]
MAX_IMPORT_CHARACTERS = 20_000_000
MAX_IMPORT_TURNS = 10_000
"""Turns and versions. They are stored at once, which holds up whoever stores an answer meanwhile."""
MOST = 2**53
"""No figure is larger."""
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
        if any(isinstance(value, int | float) and abs(value) > MOST for value in values.values()):
            raise BadRequestError("The file has figures that no answer can have.")
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
    text = text.replace("\r\n", "\n")
    file = _from_json(text) if text.lstrip()[:1] in ("{", "[") else _from_markdown(text)
    system = file.system or next((turn.content for turn in file.messages if turn.role == "system"), "")
    said = [turn for turn in file.messages if turn.role != "system"]
    if (count := sum(1 + len(turn.versions) for turn in said)) > MAX_IMPORT_TURNS:
        raise BadRequestError(f"The file has {count:,} turns, and {MAX_IMPORT_TURNS:,} can be imported.")
    turns = [turn.message() for turn in said]
    if not turns:
        raise BadRequestError("The file has no messages. Choose one that was exported from here.")
    model = file.model or next((turn.model for turn in reversed(turns) if turn.model), "")
    first = next((turn.content for turn in turns if turn.role == "user"), "Imported")
    title = (file.title or " ".join(first.split()))[:TITLE_CHARACTERS]
    conversation = Conversation(title=title, model=model, system=system, options=_known(file.options))
    if file.created_at is not None:
        conversation.created_at = file.created_at
    return conversation, turns


def _from_json(text: str) -> File:
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        return File.model_validate({"messages": data} if isinstance(data, list) else data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequestError(f"The file is no conversation: {place}: {first['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The file is no valid JSON: {error}.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """Those sampling options that this Workbench knows."""
    names = {field.name for field in dataclasses.fields(SamplingOptions)} - {"stop"}
    known = {name: value for name, value in options.items() if name in names and value is not None}
    if not all(isinstance(value, int | float) for value in known.values()):
        raise BadRequestError("The file's sampling options are no numbers.")
    SamplingOptions(**known).check()
    return known


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
