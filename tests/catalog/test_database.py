"""The file: schema, versions, locks, damage, and what a killed process leaves."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import create_engine, inspect
from sqlmodel import SQLModel

from workbench.catalog import database, tables
from workbench.catalog.database import Database, latest_version
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Message
from workbench.errors import UnavailableError


def test_migrations_make_the_schema_of_the_tables(tmp_path: Path) -> None:
    Database(tmp_path / "migrated.db").close()
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    declared = create_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    SQLModel.metadata.create_all(declared)
    assert _schema(migrated) == _schema(declared)
    assert set(_schema(migrated)) == {
        tables.Model.__tablename__,
        tables.SeededModel.__tablename__,
        tables.Variant.__tablename__,
        tables.Conversation.__tablename__,
        tables.Message.__tablename__,
        tables.Preset.__tablename__,
        tables.Swap.__tablename__,
        tables.Request.__tablename__,
        tables.ApiKey.__tablename__,
        tables.SignIn.__tablename__,
    }


def _schema(engine):
    """Columns (type affinity, nullability, key), indexes, unique constraints and foreign keys by table."""
    inspector = inspect(engine)
    schema = {}
    for table in inspector.get_table_names():
        columns = {
            column["name"]: (column["type"]._type_affinity, column["nullable"], bool(column["primary_key"]))
            for column in inspector.get_columns(table)
        }
        indexes = {
            (index["name"], tuple(index["column_names"]), bool(index["unique"]))
            for index in inspector.get_indexes(table)
        }
        unique = {tuple(constraint["column_names"]) for constraint in inspector.get_unique_constraints(table)}
        foreign = {
            (tuple(key["constrained_columns"]), key["referred_table"], key["options"].get("ondelete"))
            for key in inspector.get_foreign_keys(table)
        }
        schema[table] = columns, indexes, unique, foreign
    engine.dispose()
    return schema


def test_pragmas_hold_on_every_connection(tmp_path: Path) -> None:
    held = Database(tmp_path / "workbench.db")
    with held.writing() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    held.close()


def test_an_empty_file_is_migrated_and_reopened_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "workbench.db"
    path.touch()
    catalog = Catalog.open(path)
    catalog.chats.create_conversation("kept")
    catalog.close()
    assert _user_version(path) == latest_version()
    again = Catalog.open(path)
    assert [conversation.title for conversation in again.chats.conversations()] == ["kept"]
    again.close()


def test_an_older_database_gets_only_the_newer_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workbench.db"
    catalog = Catalog.open(path)
    catalog.chats.create_conversation("kept")
    catalog.close()
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    newest = latest_version()
    for number in range(1, newest + 1):
        (migrations / f"{number:04}_known.sql").write_text("this is not run again;")
    (migrations / f"{newest + 1:04}_note.sql").write_text("CREATE TABLE notes (id INTEGER PRIMARY KEY);")
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    Catalog.open(path).close()
    assert _user_version(path) == newest + 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT title FROM conversations, (SELECT count(*) FROM notes)").fetchall()


def test_older_records_tell_queue_and_switch_and_loads_and_wakes_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workbench.db"
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    for known in sorted(database.MIGRATIONS.glob("000[12]*.sql")):
        (migrations / known.name).write_text(known.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", migrations)
        Database(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO requests VALUES (?, ?, 'adder', NULL, 1, ?, ?, NULL, 1, 0, 1, 2, 'stop', '')",
            [(1, "switched", 0.3, 0.3), (2, "queued", 0.2, 0.0)],
        )
        connection.executemany(
            "INSERT INTO swaps VALUES (?, 'adder', '', '', 1, ?, '[]', 0, 0, ?, 0.1, ?, 0, 0.1, 1, ?, '')",
            [
                (1, "disk", 0.1, 0.1, "ok"),
                (2, "host", 0, 0, "ok"),
                (3, "disk", 0, 0, "ok"),
                (4, "disk", 0, 0, "failed"),
            ],
        )
    catalog = Catalog.open(path)
    assert [row.queue_s for row in reversed(catalog.recent_requests())] == [0.0, 0.2]
    assert [row.decode_s for row in catalog.recent_requests()] == [None, None]
    assert [row.woken for row in reversed(catalog.recent_swaps())] == [False, True, True, False]
    catalog.close()


def test_a_failing_migration_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "workbench.db"
    Catalog.open(path).close()
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    newest = latest_version()
    for number in range(1, newest + 1):
        (migrations / f"{number:04}_known.sql").touch()
    (migrations / f"{newest + 1:04}_bad.sql").write_text(
        "CREATE TABLE notes (id INTEGER); CREATE TABLE notes (id INTEGER);"
    )
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Database(path)
    assert _user_version(path) == newest
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchall()
    monkeypatch.undo()
    Database(path).close()  # the lock was given back


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "workbench.db"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UnavailableError, match=r"newer Workbench \(schema 99; this one knows \d+\): update"):
        Database(path)
    assert _user_version(path) == 99


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE places (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match="database of another program"):
        Database(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "workbench.db"
    path.write_text("shopping list " * 100)
    with pytest.raises(UnavailableError, match="is not an SQLite database: move it away"):
        Database(path)


def test_a_second_workbench_is_told_who_holds_the_database(tmp_path: Path) -> None:
    path = tmp_path / "workbench.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(UnavailableError, match=rf"in use by another Workbench \(process {holder.pid}\)"):
            Catalog.open(path)
        holder.kill()
    Catalog.open(path).close()  # a killed holder holds nothing


_HOLD = """
import sys
from pathlib import Path
from workbench.catalog.store import Catalog
catalog = Catalog.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_database_locked_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    catalog = Catalog.open(tmp_path / "workbench.db")
    with closing(sqlite3.connect(tmp_path / "workbench.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert catalog.chats.conversations() == []  # reading goes on
        with pytest.raises(UnavailableError, match="locked by another program: close that program"):
            catalog.chats.create_conversation()
        other.execute("ROLLBACK")
    assert catalog.chats.create_conversation().id == 1
    catalog.close()


def test_a_database_locked_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    Catalog.open(tmp_path / "workbench.db").close()
    with closing(sqlite3.connect(tmp_path / "workbench.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked by another program"):
            Catalog.open(tmp_path / "workbench.db")


def test_a_read_only_database(open_folder: Path) -> None:
    path = open_folder / "workbench.db"
    Catalog.open(path).close()
    path.chmod(0o444)
    open_folder.joinpath("workbench.db.lock").chmod(0o666)
    with _without_privileges(), pytest.raises(UnavailableError, match="is read-only: make it"):
        Catalog.open(path)


def test_a_folder_that_cannot_be_written(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with (
        _without_privileges(),
        pytest.raises(UnavailableError, match=r"can't be written \(Permission denied"),
    ):
        Catalog.open(open_folder / "workbench.db")
    open_folder.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@contextmanager
def _without_privileges() -> Iterator[None]:
    """Root may write anywhere: step down to nobody meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "workbench.db"
    writer = subprocess.Popen([sys.executable, "-c", _WRITE, path], stdout=subprocess.PIPE, text=True)
    with writer:
        acknowledged = [writer.stdout.readline().strip() for _ in range(50)]
        writer.kill()
        acknowledged += writer.stdout.read().splitlines()
    catalog = Catalog.open(path)
    stored = [message.content for message in catalog.chats.messages(1)]
    catalog.close()
    assert len(acknowledged) >= 50
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1  # one may be stored and not yet acknowledged


_WRITE = """
import itertools, sys
from pathlib import Path
from workbench.catalog.store import Catalog
from workbench.catalog.tables import Message
catalog = Catalog.open(Path(sys.argv[1]))
chat = catalog.chats.create_conversation()
for number in itertools.count():
    message = Message(conversation_id=chat.id, role="user", content=f"message {number}")
    catalog.chats.append_message(message)
    print(message.content, flush=True)
"""


def test_threads_write_side_by_side(catalog: Catalog) -> None:
    chat = catalog.chats.create_conversation()

    def write() -> None:
        for _ in range(25):
            catalog.chats.append_message(Message(conversation_id=chat.id, role="user"))
            catalog.chats.messages(chat.id)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [message.position for message in catalog.chats.messages(chat.id)] == list(range(200))


def test_open_files_do_not_depend_on_how_many_threads_met(tmp_path: Path) -> None:
    held = Database(tmp_path / "workbench.db")
    before = _open_files(tmp_path)
    together = threading.Barrier(database.CONNECTIONS)

    def read() -> None:
        with held.reading() as session:
            session.connection().exec_driver_sql("SELECT count(*) FROM models")
            together.wait(10)

    threads = [threading.Thread(target=read) for _ in range(3 * database.CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert _open_files(tmp_path) == before
    held.close()
    assert _open_files(tmp_path) == []


def _open_files(folder: Path) -> list[Path]:
    """What this process has open in a folder, once a descriptor."""
    files = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sorted(file for file in files if file.is_relative_to(folder))


def _user_version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]
