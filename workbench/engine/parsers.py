"""Which of vLLM's parsers finds tool calls and reasoning in a model's text.

A model says in its chat template how it writes both, so nothing need be set for the common families; an
entry of the catalog may name them (`tool_call_parser`, `reasoning_parser`), or "none".
"""

import json
from dataclasses import dataclass
from pathlib import Path

from workbench.engine.spec import ModelSpec

TOOL_CALL_MARKS = (
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v3"),
    ("<function=", "qwen3_coder"),
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
    ("<|tool_call|>", "granite"),
)
"""By what a chat template writes around a call; the first that matches counts (vLLM docs, Tool Calling)."""
ANY_TOOL_CALL = "hermes"
"""For templates that say nothing: a call that a request forces is JSON by its grammar, whatever the model."""
REASONING_MARKS = (("<think>", "qwen3"), ("</think>", "deepseek_r1"))
"""Templates that open the block themselves name only its end (docs.vllm.ai, Reasoning Outputs)."""
REASONING_END = "</think>"
NONE = "none"
ARGUMENTS = ("tool_call_parser", "reasoning_parser")
"""Names in `ModelSpec.engine_args`."""


@dataclass(frozen=True, slots=True)
class Parsers:
    """Names of parsers; "" for none."""

    tool_call: str = ""
    reasoning: str = ""


def parsers_of(spec: ModelSpec) -> Parsers:
    """What a model's entry says, or its chat template where the entry says nothing."""
    given, folder = dict(spec.engine_args), Path(spec.path)
    template = chat_template(folder)
    tool_call, reasoning = (
        str(given.get(name) or next((parser for mark, parser in marks if mark in template), other))
        for name, marks, other in (
            ("tool_call_parser", TOOL_CALL_MARKS, ANY_TOOL_CALL),
            ("reasoning_parser", REASONING_MARKS, NONE),
        )
    )
    if "reasoning_parser" not in given and reasoning != NONE and not _has_token(folder, REASONING_END):
        reasoning = NONE  # vLLM's parser would refuse to be made, and with it the engine
    return Parsers("" if tool_call == NONE else tool_call, "" if reasoning == NONE else reasoning)


def chat_template(folder: Path) -> str:
    """The text of a model's chat template; "" where it has none that can be read."""
    try:
        file = folder / "chat_template.jinja"
        if file.exists():
            return file.read_text("utf-8")
        template = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("chat_template")
    except (OSError, ValueError):
        return ""
    return template if isinstance(template, str) else json.dumps(template or "")


def _has_token(folder: Path, token: str) -> bool:
    """Whether the vocabulary has this very token."""
    try:
        return json.dumps(token, ensure_ascii=False).encode() in (folder / "tokenizer.json").read_bytes()
    except OSError:
        return False
