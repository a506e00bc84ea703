"""The page to sign in on: one file of HTML, in the colours of the theme."""

from html import escape
from pathlib import Path
from string import Template

PAGE = Template((Path(__file__).parents[1] / "static" / "login.html").read_text("utf-8"))


def login_page(action: str, wanted: str, note: str = "") -> str:
    """The page.

    Args:
        action: where the form goes.
        wanted: path that a successful sign-in leads to.
        note: why one is needed, or didn't succeed.
    """
    return PAGE.substitute(action=escape(action), wanted=escape(wanted), note=escape(note))
