"""The SQLite file: held by one Workbench at a time, migrated on opening, used through short sessions.

Write-ahead log with synchronous=NORMAL: what was committed survives a killed process, and a power cut
leaves the file consistent, though it may lose the last moments.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from workbench.errors import UnavailableError

MIGRATIONS = Path(__file__).with_name("migrations")
APPLICATION_ID = int.from_bytes(b"WBCH")
BUSY_TIMEOUT_S = 5.0
CONNECTIONS = 4
"""Open from the start and never more, so that the process's descriptors don't depend on how many threads
have met in the database. More make nothing faster: one writes at a time, and a read takes 0.4 ms."""

_REMEDIES = {
    "database is locked": "is locked by another program: close that program, then try again",
    "attempt to write a readonly database": "is read-only: make it and its folder writable",
    "unable to open database file": "can't be opened: make it and its folder readable and writable",
    "file is not a database": "is not an SQLite database: move it away",
    "database disk image is malformed": "is damaged: restore a backup, or move it away to start anew",
    "database or disk is full": "can't grow because its disk is full: free some space",
    "disk I/O error": "can't be read or written because its disk reports an error: check the disk",
}


class Database:
    """An open database; `close` it, or the lock stays until the process ends.

    Args:
        path: the SQLite file, made if there is none.
        beside: open it for a moment also where a running Workbench, of the same schema, holds it.

    Raises:
        UnavailableError: the file is in use by another Workbench, locked, read-only, damaged, no Workbench
            database, or from a newer Workbench. Sessions raise it too.
    """

    def __init__(self, path: Path, *, beside: bool = False) -> None:
        self._path = path
        self._lock = _lock(path, beside)
        self._engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": BUSY_TIMEOUT_S},
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=None,  # those that hold the connections wait for no longer than BUSY_TIMEOUT_S
        )
        event.listen(self._engine, "connect", _prepare_connection)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        try:
            with _explained(path):
                _migrate(path, may_change=self._lock is not None)
                _open_connections(self._engine)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state; its rows outlive it."""
        with _explained(self._path), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is alone in writing from its start; committed unless the block raises."""
        with (
            _explained(self._path),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()


def latest_version() -> int:
    """Number of the newest migration, which is the schema version this code works with."""
    return len(_migrations())


def _migrations() -> list[Path]:
    return sorted(MIGRATIONS.glob("[0-9]*.sql"))


def _lock(path: Path, beside: bool) -> IO[str] | None:
    """Take the lock beside the database, which the kernel drops when this process ends, however it ends.

    None where another process has it, if that may be (`beside`).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("a+")
    except OSError as error:
        raise UnavailableError(
            f"The database folder {path.parent} can't be written ({error.strerror}): make it writable, "
            "or choose another database with WORKBENCH_DATABASE."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if beside:
            lock.close()
            return None
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UnavailableError(
            f"The database {path} is in use by another Workbench (process {holder}): stop that one, "
            "or choose another database with WORKBENCH_DATABASE."
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _migrate(path: Path, may_change: bool) -> None:
    """Bring the schema to the latest version, each migration in a transaction of its own.

    A file that another process holds (`may_change` is False) must have that schema already.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        version = _value(connection, "PRAGMA user_version")
        tables = _value(connection, "SELECT count(*) FROM sqlite_master")
        if tables and _value(connection, "PRAGMA application_id") != APPLICATION_ID:
            raise UnavailableError(
                f"The file {path} is a database of another program: "
                "choose another database with WORKBENCH_DATABASE."
            )
        if version > latest_version():
            raise UnavailableError(
                f"The database {path} comes from a newer Workbench (schema {version}; this one knows "
                f"{latest_version()}): update Workbench, or choose another database with WORKBENCH_DATABASE."
            )
        if version < latest_version() and not may_change:
            raise UnavailableError(
                f"The database {path} is in use by an older Workbench (schema {version}; this one has "
                f"{latest_version()}): stop that one first."
            )
        connection.execute("PRAGMA journal_mode = WAL")
        for number, migration in enumerate(_migrations()[version:], start=version + 1):
            script = f"BEGIN IMMEDIATE;\n{migration.read_text()}\nPRAGMA user_version = {number};\nCOMMIT;"
            try:
                connection.executescript(script)
            except sqlite3.Error:
                connection.rollback()
                raise
        # Changes nothing, but fails now, not at the first message, if the file is locked or read-only.
        connection.execute(f"PRAGMA user_version = {latest_version()}")


def _value(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _open_connections(engine: Engine) -> None:
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            connection = held.enter_context(engine.connect())
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # opens the write-ahead log, too


def _prepare_connection(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.create_function("casefold", 1, str.casefold, deterministic=True)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says about the file as a whole into a sentence; let programming errors pass."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = str(error.orig if isinstance(error, DBAPIError) else error)
        for symptom, remedy in _REMEDIES.items():
            if cause.startswith(symptom):
                raise UnavailableError(
                    f"The database {path} {remedy}, or choose another database with WORKBENCH_DATABASE."
                ) from error
        raise
