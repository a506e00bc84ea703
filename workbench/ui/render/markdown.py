"""What models write, as HTML: Markdown, code, formulas and thinking.

Nothing of the text becomes markup of its own: tags are shown as they were written, links lead nowhere but
to web pages, images are links, and formulas are built element by element.
"""

import html
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

MAX_FORMULA_CHARACTERS = 2_000
MAX_HIGHLIGHTED_CHARACTERS = 20_000
MAX_RENDERED_CHARACTERS = 200_000
MAX_KEPT_CHARACTERS = 32_000
FORMULA_ATTRIBUTES = {
    "columnalign",
    "columnspacing",
    "depth",
    "display",
    "fence",
    "form",
    "height",
    "linethickness",
    "lspace",
    "mathvariant",
    "maxsize",
    "minsize",
    "movablelimits",
    "rowspacing",
    "rspace",
    "scriptlevel",
    "stretchy",
    "width",
}
"""Attributes that a formula may have: no links, no styles."""

Tokens = Sequence[Token]

_THOUGHTS = ("think", "thinking")
"""Tags that models put around what they think."""
_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
_PLAIN_CODE = HtmlFormatter(nowrap=True)


def answer(text: str, growing: bool = False) -> str:
    """An answer: what was thought, folded away once it is complete, then what is said."""
    thought, open_ended, said = split_thinking(text)
    parts = []
    if thought.strip():
        unfolded = " open" if growing and open_ended else ""
        summary = "Thinking …" if growing and open_ended else "Thoughts"
        parts.append(
            f'<details class="thinking"{unfolded}><summary>{summary}</summary>'
            f'<div class="written">{markdown(thought.strip())}</div></details>'
        )
    if said.strip():
        body = _render(said) if growing and len(said) <= MAX_RENDERED_CHARACTERS else markdown(said)
        parts.append(f'<div class="written">{body}</div>')
    return "".join(parts)


def split_thinking(text: str) -> tuple[str, bool, str]:
    """(thought, whether it is still going on, said). Some templates open the thought in the prompt."""
    body = text.lstrip()
    for tag in _THOUGHTS:
        opening, closing = f"<{tag}>", f"</{tag}>"
        begun = body.startswith(opening)
        end = body.find(closing)
        if begun and end < 0:
            return body.removeprefix(opening), True, ""
        if begun or (end >= 0 and "<think" not in body[:end]):
            return body[:end].removeprefix(opening), False, body[end + len(closing) :]
    return "", False, text


def markdown(text: str) -> str:
    """Markdown as HTML; plain where it is very long. Any thread may call it."""
    if len(text) > MAX_RENDERED_CHARACTERS:
        return f'<pre class="plain" tabindex="0">{html.escape(text)}</pre>'
    return _kept(text) if len(text) <= MAX_KEPT_CHARACTERS else _render(text)


@lru_cache(maxsize=512)
def _kept(text: str) -> str:
    """For texts that are shown again and again."""
    return _render(text)


def _render(text: str) -> str:
    with _RENDERING:  # what finds links in a text keeps its place in itself
        rendered: str = _MARKDOWN.render(text)
    return rendered


def _code(_renderer: Any, tokens: Tokens, index: int, *_: Any) -> str:
    token = tokens[index]
    language = token.info.strip().split(" ")[0] if token.info else ""
    return (
        f'<div class="code"><div class="code-head"><span>{html.escape(language or "text")}</span>'
        '<button type="button" data-copy-code>Copy</button></div>'
        f'<pre tabindex="0"><code>{_highlighted(token.content, language)}</code></pre></div>'
    )


def _highlighted(code: str, language: str) -> str:
    if not language or len(code) > MAX_HIGHLIGHTED_CHARACTERS:
        return html.escape(code)
    try:
        coloured: str = highlight(code, get_lexer_by_name(language), _PLAIN_CODE)
    except ClassNotFound:
        return html.escape(code)
    return coloured


def _inline_formula(
    _renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _environment: Any
) -> str:
    return formula(tokens[index].content, "inline")


def _block_formula(
    _renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _environment: Any
) -> str:
    return f'<div class="formula">{formula(tokens[index].content, "block")}</div>'


def formula(latex: str, display: str) -> str:
    """LaTeX as MathML; as it was written where it can't be read."""
    written = f"<code>{html.escape(latex)}</code>"
    if len(latex) > MAX_FORMULA_CHARACTERS:
        return written
    try:
        element = convert_to_element(latex, display=display)
    except Exception:  # the library has errors of many kinds for what is no LaTeX
        return written
    for part in element.iter():
        part.text, part.tail = html.unescape(part.text or ""), html.unescape(part.tail or "")
        for name in set(part.attrib) - FORMULA_ATTRIBUTES:
            if name != "xmlns":
                del part.attrib[name]
    return ElementTree.tostring(element, encoding="unicode")


def _image(_renderer: Any, tokens: Tokens, index: int, *_: Any) -> str:
    """The page loads nothing from elsewhere: an image is its text."""
    return f"<span>🖼 {html.escape(tokens[index].content or 'image')}</span>"


def _link_open(_renderer: Any, tokens: Tokens, index: int, *_: Any) -> str:
    target = html.escape(str(tokens[index].attrGet("href") or ""))
    return f'<a href="{target}" target="_blank" rel="noopener noreferrer nofollow">'


RULES = {
    "fence": _code,
    "code_block": _code,
    "math_inline": _inline_formula,
    "math_inline_double": _block_formula,
    "math_block": _block_formula,
    "math_block_eqno": _block_formula,
    "math_block_label": _block_formula,
    "image": _image,
    "link_open": _link_open,
}


def _made() -> MarkdownIt:
    made = MarkdownIt("gfm-like", {"html": False, "linkify": True, "breaks": True})
    made.use(texmath_plugin, delimiters="brackets")
    made.use(dollarmath_plugin, allow_digits=False, allow_space=False, double_inline=True)
    made.validateLink = lambda url: _LINK.match(url) is not None  # type: ignore[method-assign]
    for rule, render in RULES.items():
        made.add_render_rule(rule, render)
    return made


_MARKDOWN = _made()
_RENDERING = threading.Lock()
