"""What a request's body says of itself, and what a variant's defaults add to it. Pure."""

from collections.abc import Mapping
from typing import Any

from workbench.errors import BadRequestError
from workbench.values import Caller, VariantView, Wish

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
CHARACTERS_A_TOKEN = 4
"""Of prompts that come as tokens, so that they compare with text."""
LISTS = ("messages", "input", "documents", "items", "queries", "text_1", "text_2", "data_1", "data_2")
"""Fields of which each entry costs something."""
FIELDS: Mapping[str, Mapping[str, str]] = {
    "/v1/responses": {"max_tokens": "max_output_tokens"},
    "/v1/messages": {"stop": "stop_sequences"},
}
"""Names that an endpoint has for sampling options, where they are other ones."""
INSTEAD: Mapping[str, str] = {"max_tokens": "max_completion_tokens"}
"""A field that says the same as another one."""
NO_SUCH_FIELD: Mapping[str, frozenset[str]] = {
    "/v1/responses": frozenset({"stop", "seed", "min_p", "repetition_penalty"}),
    "/v1/messages": frozenset({"seed", "min_p", "repetition_penalty"}),
}


def with_defaults(path: str, body: Mapping[str, Any], target: VariantView) -> Mapping[str, Any]:
    """The body as the model is to get it; the same object where nothing is to be changed."""
    if target.name == target.model:
        return body
    asked = {**body, "model": target.model}
    if path not in GENERATING:
        return asked
    for option, value in target.options.items():
        field = FIELDS.get(path, {}).get(option, option)
        given = body.get(field) is not None or body.get(INSTEAD.get(option, field)) is not None
        if not given and option not in NO_SUCH_FIELD.get(path, ()):
            asked[field] = list(value) if isinstance(value, tuple) else value
    if target.system:
        _add_system(path, asked, target.system)
    return asked


def _add_system(path: str, asked: dict[str, Any], system: str) -> None:
    """Give the request a system prompt, unless it brings one."""
    match path:
        case "/v1/chat/completions":
            messages = asked.get("messages")
            if isinstance(messages, list) and not any(_is_system(message) for message in messages):
                asked["messages"] = [{"role": "system", "content": system}, *messages]
        case "/v1/responses":
            if not asked.get("instructions"):
                asked["instructions"] = system
        case "/v1/messages":
            if not asked.get("system"):
                asked["system"] = system


def _is_system(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def check_size(body: Mapping[str, Any], most_entries: int, most_choices: int) -> int:
    """How many answers the body asks for.

    Raises:
        BadRequestError: it asks for too much at once, or does not say in a plain way how much.
    """
    if not isinstance(body.get("stream"), bool | None):
        raise BadRequestError("stream must be true or false.")
    choices = body.get("n") if body.get("n") is not None else 1
    if type(choices) is not int or choices < 1:
        raise BadRequestError("n must be a whole number, at least 1.")
    prompt = body.get("prompt")
    if isinstance(prompt, list) and _is_several(prompt):
        choices *= max(1, len(prompt))
    if choices > most_choices:
        raise BadRequestError(f"The request asks for {choices} answers at once; {most_choices} are allowed.")
    for name in LISTS:
        if _is_several(body.get(name)) and len(body[name]) > most_entries:
            raise BadRequestError(f"{name} has {len(body[name])} entries; {most_entries} are allowed.")
    return choices


def _is_several(value: object) -> bool:
    """Whether a field has a list of things, and not one thing as a list of tokens."""
    return isinstance(value, list) and not (value and isinstance(value[0], int))


def wish_of(caller: Caller, body: Mapping[str, Any], answers: int) -> Wish:
    """What a request says for itself where several wait.

    Only those who may administer Workbench, or all where no key is asked for, may be more urgent than others.
    Requests with a key share prefixes in the KV cache with those of the same key alone: how fast an answer
    begins would tell what others have asked.
    """
    priority, user = body.get("priority"), body.get("user")
    prompt = next((body[name] for name in ("messages", "prompt", "input") if body.get(name)), "")
    limits = (body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    priority = priority if type(priority) is int else 0
    return Wish(
        priority=priority if "admin" in caller.scopes else max(0, priority),
        owner=caller.name if caller.key_id is not None or not isinstance(user, str) else f"user:{user[:64]}",
        prompt_characters=_length(prompt),
        max_tokens=next((limit for limit in limits if type(limit) is int and limit > 0), None),
        answers=answers,
        cache_salt="" if caller.key_id is None else f"key-{caller.key_id}",
    )


def _length(value: object) -> int:
    """Characters of all text in a prompt, however deep."""
    characters, parts = 0, [value]
    while parts:
        match parts.pop():
            case str() as text:
                characters += len(text)
            case int():
                characters += CHARACTERS_A_TOKEN  # a token already
            case Mapping() as part:
                parts += [inner for key, inner in part.items() if key in ("content", "text")]
            case list() as several:
                parts += several
    return characters
