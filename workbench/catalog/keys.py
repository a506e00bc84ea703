"""The queries of keys, and of the browsers that are signed in with them.

As those of the catalog: the methods block, may be called from any thread, and hand out detached rows.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from workbench.catalog.database import Database
from workbench.catalog.tables import ApiKey, SignIn
from workbench.errors import ConflictError, NotFoundError

SIGN_INS_PER_KEY = 50
"""Browsers that one key has signed in at a time; the one that would end first gives way to another."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What is noted of a key from time to time."""

    key_id: int
    last_used_at: float | None
    day: int
    day_tokens: int


class Keys:
    """The keys of one open database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def beside(cls, path: Path) -> Iterator[Self]:
        """The keys of a database that a running Workbench may hold; it notices changes by itself.

        Raises:
            UnavailableError: see `Database`.
        """
        database = Database(path, beside=True)
        try:
            yield cls(database)
        finally:
            database.close()

    def read(self, now: float) -> tuple[list[ApiKey], list[SignIn]]:
        """All keys in the order they were made, and the sign-ins that are not over at `now`."""
        with self._database.reading() as session:
            keys = session.exec(select(ApiKey).order_by(col(ApiKey.id)))
            sign_ins = session.exec(select(SignIn).where(SignIn.expires_at > now))
            return list(keys), list(sign_ins)

    def add(self, key: ApiKey) -> ApiKey:
        """Store a new key and return it with its id. Raises: ConflictError where the name is taken."""
        with self._database.writing() as session:
            if _named(session, key.name) is not None:
                raise ConflictError(f'There is a key named "{key.name}" already: choose another name.')
            session.add(key)
        return key

    def remove(self, name: str) -> ApiKey:
        """Take a key away, and whoever is signed in with it. Raises: NotFoundError."""
        with self._database.writing() as session:
            key = _named(session, name)
            if key is None:
                raise NotFoundError(f'There is no key named "{name}".')
            session.delete(key)
        return key

    def sign_in(self, sign_in: SignIn, now: float) -> None:
        """Store a sign-in, and forget those that are over. Raises: NotFoundError for a key that is gone."""
        with self._database.writing() as session:
            if session.get(ApiKey, sign_in.key_id) is None:
                raise NotFoundError("The key was revoked a moment ago.")
            session.exec(delete(SignIn).where(col(SignIn.expires_at) <= now))
            session.add(sign_in)
            session.flush()
            newest = (
                select(SignIn.digest)
                .where(SignIn.key_id == sign_in.key_id)
                .order_by(col(SignIn.expires_at).desc())
                .limit(SIGN_INS_PER_KEY)
            )
            too_many = delete(SignIn).where(
                col(SignIn.key_id) == sign_in.key_id, col(SignIn.digest).not_in(newest)
            )
            session.exec(too_many)

    def sign_out(self, digest: str) -> None:
        """Forget a sign-in, if there is such a one."""
        with self._database.writing() as session:
            session.exec(delete(SignIn).where(col(SignIn.digest) == digest))

    def note(self, uses: Iterable[KeyUse]) -> None:
        """Store when keys were last used, and what they have used today."""
        with self._database.writing() as session:
            for use in uses:
                session.exec(
                    update(ApiKey)
                    .where(col(ApiKey.id) == use.key_id)
                    .values(last_used_at=use.last_used_at, day=use.day, day_tokens=use.day_tokens)
                )


def _named(session: Session, name: str) -> ApiKey | None:
    return session.exec(select(ApiKey).where(ApiKey.name == name)).first()
