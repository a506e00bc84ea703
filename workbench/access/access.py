"""Access: which key a request comes with, what that may do, and whether it may now.

Keys are held in memory: a request costs a digest and a lookup, never the database. What changes here changes
there and in memory before the change is reported; what another process changes (`workbench keys`) is read
within `REFRESH_S`. All methods are for the event loop's thread.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from workbench.access.keys import digest, new_key
from workbench.access.limits import Limits, Running, Usage, day_of
from workbench.catalog.keys import Keys, KeyUse
from workbench.catalog.tables import ApiKey, KeyScope, SignIn
from workbench.errors import (
    ForbiddenError,
    NotFoundError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    WorkbenchError,
)
from workbench.settings import Settings

log = structlog.get_logger("workbench.keys")

REFRESH_S = 2.0
NOTE_S = 60.0
"""Between two times that the use of keys is stored."""
SIGN_IN_S = 30 * 86_400
"""After so long a browser has to show its key again."""
REFUSALS_LOGGED_S = 10.0
"""Refused keys are logged at most so often, with their number: guessing must not fill the disk."""

CHAT = frozenset({"chat"})
ADMIN = frozenset({"chat", "admin"})
SCOPES = {"chat": CHAT, "admin": ADMIN}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    key_id: int | None
    """None: no key was asked for."""
    name: str
    """Of the key; "local" without one."""
    scopes: frozenset[str]
    """{"chat"}, or {"chat", "admin"}."""

    def demand(self, scope: str) -> None:
        """Raises: ForbiddenError where the key has not that scope."""
        if scope not in self.scopes:
            raise ForbiddenError(f"The key “{self.name}” may not do that: it lacks the scope “{scope}”.")


LOCAL = Caller(None, "local", ADMIN)
NOBODY = Caller(None, "nobody", frozenset())


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as it is listed; the key itself is kept nowhere."""

    id: int
    name: str
    prefix: str
    scope: KeyScope
    limits: Limits
    created_at: float
    last_used_at: float | None
    tokens_today: int


class Admission:
    """A request that was let in."""

    def __init__(self, usage: Usage | None, wall: Callable[[], float]) -> None:
        self._usage = usage
        self._wall = wall

    def charge(self, tokens: int) -> None:
        """Add tokens of prompt and answer to the key's use, also beyond its limit."""
        if self._usage is not None:
            self._usage.charge(tokens, self._wall())


class Access:
    """The keys of a Workbench, who comes with them, and what they use.

    Args:
        keys: where they are stored.
        settings: whether keys are asked for, and how many requests may be under way.
        clock: monotonic, in seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        keys: Keys,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.required = settings.keys_required
        self._store = keys
        self._most = settings.max_concurrent_requests
        self._clock = clock
        self._wall = wall
        self._rows: dict[int, ApiKey] = {}
        self._by_digest: dict[str, int] = {}
        self._sign_ins: dict[str, SignIn] = {}
        self._usages: dict[int, Usage] = {}
        self._noted: dict[int, KeyUse] = {}
        """What the database knows of the use of each key."""
        self._running = Running()
        self._changes = 0
        """Counted up by each change made here: what was read from the database before one is not used."""
        self._refused = 0
        self._refusal_logged_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    # Life.

    async def start(self) -> None:
        """Read the keys, and follow changes to them from now on.

        Raises:
            UnavailableError: the database can't be read.
        """
        await self._refresh()
        self._task = asyncio.create_task(self._follow(), name="keys")

    async def close(self) -> None:
        """Store what keys have used. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            with contextlib.suppress(UnavailableError):  # a full disk must not keep Workbench from closing
                await self._note_uses()

    # Who asks.

    def caller(self, authorization: str, cookie: str) -> Caller:
        """Whose request it is.

        Args:
            authorization: the header of that name; it counts before a cookie.
            cookie: value of the cookie that `sign_in` gave.

        Raises:
            UnauthorizedError: keys are asked for, and there is none, or one that is not (or no longer) valid.
        """
        row = self._row_of_header(authorization) if authorization else self._row_of_cookie(cookie)
        if row is not None:
            self._usage(row).last_used_at = self._wall()
            return Caller(row.id, row.name, SCOPES[row.scope])
        if not self.required:
            return LOCAL
        if authorization:
            raise UnauthorizedError("The key is not known here: it is mistyped, or it was revoked.")
        if cookie:
            raise UnauthorizedError(
                "You are signed out: the key was revoked, or it was long ago. Sign in again."
            )
        raise UnauthorizedError(
            "A key is needed: send it as “Authorization: Bearer wb-…”. "
            "An administrator makes one on the Keys page, or with `workbench keys create NAME`."
        )

    def holds(self, caller: Caller) -> bool:
        """Whether a caller of a moment ago is one still; for what goes on long, such as event streams."""
        return not self.required if caller.key_id is None else caller.key_id in self._rows

    def note_refusal(self, client: str) -> None:
        """Log that a key was refused, without the key."""
        self._refused += 1
        if self._clock() - self._refusal_logged_at >= REFUSALS_LOGGED_S:
            log.warning("a key was refused", client=client, refused=self._refused)
            self._refused, self._refusal_logged_at = 0, self._clock()

    # What it may do now.

    @contextmanager
    def admit(self, caller: Caller) -> Iterator[Admission]:
        """Let a request for an answer in, and count it until the block ends.

        Raises:
            TooManyRequestsError: a limit of the key, or of Workbench as a whole, is reached.
            UnauthorizedError: the key was revoked a moment ago.
        """
        usage, limits = None, Limits()
        if caller.key_id is not None:
            row = self._rows.get(caller.key_id)
            if row is None:
                raise UnauthorizedError("The key was revoked a moment ago.")
            usage, limits = self._usage(row), _limits(row)
            usage.check(row.name, limits, self._clock(), self._wall())
        if self._running.count >= self._most:
            raise TooManyRequestsError(
                f"Workbench answers {self._most:,} requests at a time, and has as many.",
                self._running.next_end_s(),
            )
        began = self._clock()
        self._running.begin()
        if usage is not None:
            usage.begin(limits, began)
        try:
            yield Admission(usage, self._wall)
        finally:
            took_s = self._clock() - began
            self._running.end(took_s)
            if usage is not None:
                usage.running.end(took_s)

    # Keys.

    def listed(self) -> list[KeyView]:
        """All keys, in the order they were made."""
        today = day_of(self._wall())
        return [
            KeyView(
                row.id,
                row.name,
                row.prefix,
                row.scope,
                _limits(row),
                row.created_at,
                self._usage(row).last_used_at,
                self._usage(row).tokens_of(today),
            )
            for row in self._rows.values()
        ]

    async def create(self, name: str, scope: KeyScope = "chat", limits: Limits | None = None) -> str:
        """Make a key and return it; nobody can be told it again.

        Raises:
            BadRequestError: the name or a limit can't be used.
            ConflictError: the name is taken.
        """
        limits = limits or Limits()
        secret, row = new_key(
            name,
            scope,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_day=limits.tokens_per_day,
            concurrency=limits.concurrency,
        )
        await asyncio.to_thread(self._store.add, row)
        log.info("key created", name=row.name, scope=scope)
        await self._changed()
        return secret

    async def revoke(self, name: str) -> None:
        """Take a key away, at once: also from browsers that are signed in with it.

        Raises:
            NotFoundError: there is no key of that name.
        """
        row = await asyncio.to_thread(self._store.remove, name)
        log.info("key revoked", name=name)
        self._rows.pop(row.id, None)
        await self._changed()

    async def first_key(self) -> str | None:
        """A key for an administrator, where keys are asked for and there is none; else None."""
        if not self.required or any(row.scope == "admin" for row in self._rows.values()):
            return None
        names = {row.name for row in self._rows.values()}
        name = next(name for name in ("admin", *(f"admin {n}" for n in range(2, 1000))) if name not in names)
        return await self.create(name, "admin")

    # Browsers.

    async def sign_in(self, secret: str, client: str = "") -> str:
        """Sign a browser in with a key, for `SIGN_IN_S`.

        Args:
            secret: the key.
            client: address of who shows it, for the log.

        Returns:
            The value of its cookie: a random token, so that the key itself stays out of the browser.

        Raises:
            UnauthorizedError: the key is not valid.
        """
        row = self._row_of_secret(secret.strip())
        if row is None:
            self.note_refusal(client)
            raise UnauthorizedError("That key is not known here: it is mistyped, or it was revoked.")
        token, now = secrets.token_urlsafe(32), self._wall()
        sign_in = SignIn(digest=digest(token), key_id=row.id, expires_at=now + SIGN_IN_S)
        try:
            await asyncio.to_thread(self._store.sign_in, sign_in, now)
        except NotFoundError as error:
            raise UnauthorizedError(str(error)) from error
        await self._changed()
        return token

    async def sign_out(self, cookie: str) -> None:
        """Forget a browser."""
        self._sign_ins.pop(digest(cookie), None)
        await asyncio.to_thread(self._store.sign_out, digest(cookie))
        await self._changed()

    # Inside.

    def _row_of_header(self, authorization: str) -> ApiKey | None:
        scheme, _, secret = authorization.partition(" ")
        return self._row_of_secret(secret.strip()) if scheme.lower() == "bearer" else None

    def _row_of_secret(self, secret: str) -> ApiKey | None:
        return self._rows.get(self._by_digest.get(digest(secret), 0))

    def _row_of_cookie(self, cookie: str) -> ApiKey | None:
        sign_in = self._sign_ins.get(digest(cookie)) if cookie else None
        if sign_in is None or sign_in.expires_at <= self._wall():
            return None
        return self._rows.get(sign_in.key_id)

    def _usage(self, row: ApiKey) -> Usage:
        usage = self._usages.get(row.id)
        if usage is None:
            usage = Usage(day=row.day, day_tokens=row.day_tokens, last_used_at=row.last_used_at)
            self._usages[row.id] = usage
            self._noted[row.id] = _use(row.id, usage)
        return usage

    async def _follow(self) -> None:
        noted_at = self._clock()
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self._refresh()
                if self._clock() - noted_at >= NOTE_S:
                    noted_at = self._clock()
                    await self._note_uses()
            except WorkbenchError as error:  # goes on with the keys it knows
                log.warning("keys can't be read or written", error=str(error))

    async def _changed(self) -> None:
        self._changes += 1
        await self._refresh()

    async def _refresh(self) -> None:
        changes = -1
        while changes != self._changes:
            changes = self._changes
            known = await asyncio.to_thread(self._store.read, self._wall())
        self._take(*known)

    def _take(self, rows: Sequence[ApiKey], sign_ins: Sequence[SignIn]) -> None:
        self._rows = {row.id: row for row in rows}
        self._by_digest = {row.digest: row.id for row in rows}
        self._sign_ins = {sign_in.digest: sign_in for sign_in in sign_ins}
        for gone in self._usages.keys() - self._rows.keys():
            del self._usages[gone]
            self._noted.pop(gone, None)

    async def _note_uses(self) -> None:
        uses = {key: _use(key, usage) for key, usage in self._usages.items()}
        news = [use for key, use in uses.items() if use != self._noted.get(key)]
        if news:
            await asyncio.to_thread(self._store.note, news)
            self._noted.update({use.key_id: use for use in news})


def _limits(row: ApiKey) -> Limits:
    return Limits(row.requests_per_minute, row.tokens_per_day, row.concurrency)


def _use(key_id: int, usage: Usage) -> KeyUse:
    return KeyUse(key_id, usage.last_used_at, usage.day, usage.day_tokens)
