"""Keys: how they are made, what is kept of them, what they may be called."""

import hashlib
import secrets

from workbench.catalog.tables import ApiKey, KeyScope
from workbench.errors import BadRequestError

START = "wb-"
RANDOM_BYTES = 32
SHOWN = len(START) + 6
"""Characters of a key that lists show; those that stay secret hold 220 bits."""
MAX_NAME = 80


def digest(secret: str) -> str:
    """What is kept of a key or a token, and looked up by.

    A slow, salted hash protects what people choose, which can be guessed. These are 256 random bits: nobody
    finds one from its SHA-256. The lookup is of digests, whose timing tells nothing about a key.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_key(
    name: str,
    scope: KeyScope = "chat",
    *,
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
    concurrency: int | None = None,
) -> tuple[str, ApiKey]:
    """A new key, and the row that is to be stored of it. The key itself is shown once and kept nowhere.

    Raises:
        BadRequestError: the name is empty, long or unprintable, or a limit is no number above 0.
    """
    name = name.strip()
    if not name:
        raise BadRequestError("The key has no name. Name it after who uses it.")
    if len(name) > MAX_NAME or not name.isprintable():
        raise BadRequestError(f"A key's name has up to {MAX_NAME} printable characters.")
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_day": tokens_per_day,
        "concurrency": concurrency,
    }
    for what, limit in limits.items():
        if limit is not None and not 1 <= limit < 1 << 53:
            raise BadRequestError(
                f"The limit {what} is {limit}. It must be 1 or more; leave it out for none."
            )
    secret = START + secrets.token_urlsafe(RANDOM_BYTES)
    row = ApiKey(name=name, prefix=secret[:SHOWN], digest=digest(secret), scope=scope)
    row.sqlmodel_update(limits)
    return secret, row
