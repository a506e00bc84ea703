"""The command line: `workbench`, or `python app.py`, serves; `workbench keys` manages keys."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource

from workbench.errors import WorkbenchError
from workbench.keys_cli import keys_command
from workbench.settings import Settings
from workbench.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from workbench.server import PageServer
    from workbench.service import Workbench

log = structlog.get_logger("workbench")


def main() -> None:
    """Serve the page until interrupted, or carry out `keys`.

    Exit code 0 after an orderly end, 1 on an error, 2 on bad flags.
    """
    began = time.perf_counter()
    if sys.argv[1:2] == ["keys"]:
        sys.exit(keys_command(sys.argv[2:], read_settings))
    settings = read_settings(sys.argv[1:])
    configure_logs(settings.log_level, settings.log_json)
    try:
        asyncio.run(serve(settings, began))
        code = 0
    except WorkbenchError as error:
        log.error(str(error))
        code = 1
    except KeyboardInterrupt:  # before the handlers below were in place
        code = 0
    logging.shutdown()
    sys.stdout.flush()
    # Everything is closed. A thread that still imports vLLM would hold an ordinary exit for seconds.
    os._exit(code)


def read_settings(arguments: list[str]) -> Settings:
    """Settings from flags, environment and `.env`; ends the process with a clear line on bad ones."""
    source: CliSettingsSource[None] = CliSettingsSource(
        Settings,
        cli_prog_name="workbench",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )
    try:
        return CliApp.run(Settings, cli_args=arguments, cli_settings_source=source)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            print(f"workbench: {name} is {problem['input']!r}: {problem['msg']}.", file=sys.stderr)
        print("workbench: --help lists every setting.", file=sys.stderr)
        sys.exit(2)


async def serve(settings: Settings, began: float) -> None:
    """Start the pool, bring the page up, import the engine behind it; end at SIGINT or SIGTERM."""
    from workbench.server import PageServer, bind, build_app, import_page
    from workbench.service import Workbench

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    with bind(settings.host, settings.port) as listener:
        async with contextlib.AsyncExitStack() as stack:
            workbench = Workbench(settings)
            stack.push_async_callback(workbench.close)
            await workbench.start()
            first_key = await workbench.access.first_key()
            await asyncio.to_thread(import_page)  # meanwhile the pool starts its first worker
            server = PageServer(build_app(workbench), listener, settings.root_path, settings.max_body_bytes)
            serving = asyncio.create_task(server.run_until_stopped())
            announcing = asyncio.create_task(_announce(server, workbench, first_key, began))
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            log.info("shutting down")
            server.stop()
            await workbench.close()  # ends the event streams, so that browsers need not be waited for
            await serving
            announcing.cancel()


async def _announce(
    server: "PageServer", workbench: "Workbench", first_key: str | None, began: float
) -> None:
    await server.wait_started()
    log.info(f"page is up at {server.url}", seconds=round(time.perf_counter() - began, 2))
    if first_key is not None:
        log.warning(
            "there was no administrator's key, so one was made, which is shown only now; sign in with it at "
            f"{server.url}/?key={first_key} and make others on the Keys page"
        )
    elif not workbench.access.required and not workbench.settings.bound_to_loopback:
        log.warning("whoever can reach this machine may use and change everything: no key is asked for")
    try:
        await workbench.warm_engine()
    except Exception as error:
        log.error("vLLM can't be imported; no model can be loaded", error=repr(error))
        return
    log.info("engine is imported", seconds=round(time.perf_counter() - began, 2))
