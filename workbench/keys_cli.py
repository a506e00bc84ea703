"""`workbench keys`: keys on the command line, beside a running Workbench or without one."""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from workbench.access.keys import new_key
from workbench.catalog.keys import Keys
from workbench.catalog.tables import ApiKey
from workbench.errors import WorkbenchError
from workbench.settings import Settings


def keys_command(arguments: list[str], read_settings: Callable[[list[str]], Settings]) -> int:
    """Carry out `workbench keys …`; a Workbench that runs notices within seconds.

    Args:
        arguments: what follows `keys`. Flags that aren't of the subcommand are settings: --data-dir.
        read_settings: makes settings of such flags.

    Returns:
        The exit status: 0, or 1 where something is wrong, which is then said.
    """
    wanted, flags = _parser().parse_known_args(arguments)
    settings = read_settings(flags)
    try:
        with Keys.beside(settings.database_path) as keys:
            wanted.carry_out(keys, wanted)
            print(f"Database: {settings.database_path}", file=sys.stderr)  # which Workbench this was about
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "workbench keys",
        description="Keys of the API and of the page.",
        epilog="The settings of workbench count here too: --data-dir, --database.",
    )
    commands = parser.add_subparsers(required=True, metavar="list|create|revoke")

    listing = commands.add_parser("list", help="show every key's name, scope, limits and last use")
    listing.set_defaults(carry_out=_list)

    create = commands.add_parser("create", help="make a key and print it, once")
    create.add_argument("name", help="who uses it")
    create.add_argument("--scope", choices=("chat", "admin"), default="chat")
    create.add_argument("--requests-per-minute", type=int, metavar="N")
    create.add_argument("--tokens-per-day", type=int, metavar="N", help="of prompts and answers")
    create.add_argument("--concurrency", type=int, metavar="N", help="requests at a time")
    create.set_defaults(carry_out=_create)

    revoke = commands.add_parser("revoke", help="take a key away")
    revoke.add_argument("name")
    revoke.set_defaults(carry_out=_revoke)
    return parser


def _list(keys: Keys, _wanted: argparse.Namespace) -> None:
    rows, _ = keys.read(time.time())
    if not rows:
        print("There are no keys. Make one: workbench keys create NAME", file=sys.stderr)
        return
    table = [("NAME", "KEY", "SCOPE", "LIMITS", "LAST USE", "CREATED"), *map(_cells, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(row: ApiKey) -> tuple[str, ...]:
    limits = (
        (row.requests_per_minute, "requests/min"),
        (row.tokens_per_day, "tokens/day"),
        (row.concurrency, "at a time"),
    )
    told = ", ".join(f"{limit} {what}" for limit, what in limits if limit is not None)
    used = _moment(row.last_used_at) if row.last_used_at else "never"
    return row.name, f"{row.prefix}…", row.scope, told or "none", used, _moment(row.created_at)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _create(keys: Keys, wanted: argparse.Namespace) -> None:
    secret, row = new_key(
        wanted.name,
        wanted.scope,
        requests_per_minute=wanted.requests_per_minute,
        tokens_per_day=wanted.tokens_per_day,
        concurrency=wanted.concurrency,
    )
    keys.add(row)
    print(f"The key “{row.name}”. Copy it now: it is not kept, and can't be shown again.", file=sys.stderr)
    print(secret)  # alone on standard output, for scripts


def _revoke(keys: Keys, wanted: argparse.Namespace) -> None:
    keys.remove(wanted.name)
    print(f"The key “{wanted.name}” is revoked.", file=sys.stderr)
