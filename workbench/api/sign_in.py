"""The cookie of a browser that is signed in."""

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from workbench.settings import Settings
from workbench.values import SIGN_IN_S


class SignInCookie:
    """Out of reach for scripts, and sent from the page's own site alone.

    A page that is shown in a frame of another site (`frame_ancestors`) would get none of those: its cookie is
    sent there too, but kept apart for each of these sites, and over HTTPS only.
    """

    def __init__(self, settings: Settings) -> None:
        # Cookies don't know of ports: two Workbenches on one host would sign each other out.
        self.name = f"workbench-{settings.port}"
        self._framed = bool(settings.frame_ancestors) and not settings.bound_to_loopback

    def of(self, scope: Scope) -> str:
        """Its value in a request, "" for none."""
        return cookie_parser(Headers(scope=scope).get("cookie", "")).get(self.name, "")

    def set(self, response: Response, token: str, scope: Scope) -> None:
        """Sign in."""
        self._write(response, token, SIGN_IN_S, scope)

    def clear(self, response: Response, scope: Scope) -> None:
        """Sign out."""
        self._write(response, "", 0, scope)

    def _write(self, response: Response, token: str, max_age_s: int, scope: Scope) -> None:
        parts = [
            f"{self.name}={token}",
            f"Max-Age={max_age_s}",
            f"Path={scope.get('root_path', '') or '/'}",
            "HttpOnly",
            "SameSite=None" if self._framed else "SameSite=Strict",
        ]
        if self._framed:
            parts.append("Partitioned")
        if self._framed or is_https(scope):
            parts.append("Secure")
        response.headers.append("set-cookie", "; ".join(parts))


def is_https(scope: Scope) -> bool:
    """Whether the browser speaks HTTPS, if only to a reverse proxy."""
    return scope.get("scheme") == "https" or Headers(scope=scope).get("x-forwarded-proto", "") == "https"
