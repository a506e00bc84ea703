"""Which parsers a model gets."""

import json

import pytest

from workbench.engine.parsers import Parsers, chat_template, parsers_of
from workbench.engine.spec import ModelSpec


def spec(folder, **engine_args) -> ModelSpec:
    return ModelSpec("m", str(folder), 0, 0, 0, engine_args=tuple(sorted(engine_args.items())))


def write(folder, template: str, tokens: str = "") -> None:
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer.json").write_text(tokens)


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        ("{{ '<tool_call>' }}", "hermes"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ("{{ '<|python_tag|>' }}", "llama3_json"),
        ("<tool_call><function=x>", "qwen3_coder"),
        ("nothing of the kind", "hermes"),
    ],
)
def test_a_template_says_how_tools_are_called(tmp_path, template, parser):
    write(tmp_path, template)
    assert parsers_of(spec(tmp_path)) == Parsers(parser, "")


def test_reasoning_needs_the_token_too(tmp_path):
    write(tmp_path, "<think>", json.dumps({"added_tokens": [{"content": "</think>"}]}))
    assert parsers_of(spec(tmp_path)).reasoning == "qwen3"
    write(tmp_path, "…</think>", json.dumps({"added_tokens": [{"content": "</think>"}]}))
    assert parsers_of(spec(tmp_path)).reasoning == "deepseek_r1"
    write(tmp_path, "<think>", "{}")
    assert parsers_of(spec(tmp_path)).reasoning == ""


def test_what_the_catalog_says_counts(tmp_path):
    write(tmp_path, "<tool_call><think>")
    assert parsers_of(spec(tmp_path, tool_call_parser="none", reasoning_parser="glm45")) == Parsers(
        "", "glm45"
    )


def test_a_template_in_the_tokenizers_configuration(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "<tool_call>"}))
    assert chat_template(tmp_path) == "<tool_call>"
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"template": "[TOOL_CALLS]"}]})
    )
    assert "[TOOL_CALLS]" in chat_template(tmp_path)


def test_a_folder_without_template(tmp_path):
    assert chat_template(tmp_path) == ""
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert chat_template(tmp_path) == ""
