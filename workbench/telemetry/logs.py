"""One log for everything in the app: ours, and what libraries write through `logging`."""

import asyncio
import logging
import sys

import structlog
from structlog.typing import Processor

QUIET_LIBRARIES = {
    "asyncio": logging.WARNING,
    "gradio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "uvicorn": logging.WARNING,
    "vllm": logging.ERROR,  # it warns of everything that eager mode on a CPU does without
}


def configure_logs(level: str, as_json: bool) -> None:
    """Write readable lines, or one JSON object a line, to standard error.

    Args:
        level: "debug", "info", "warning" or "error".
        as_json: for log collectors.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
    ]
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut_connection)
    if level != "debug":
        for name, library_level in QUIET_LIBRARIES.items():
            logging.getLogger(name).setLevel(library_level)


def _is_no_cut_connection(record: logging.LogRecord) -> bool:
    """False for what uvicorn logs as errors when a stop cuts off browsers that are still connected."""
    if record.exc_info and record.exc_info[0] is asyncio.CancelledError:
        return False
    return not record.getMessage().startswith("Cancel ")
