"""One log for everything in the app: ours, and what libraries write through `logging`.

A line has the same fields whoever wrote it: as JSON `timestamp` (ISO 8601, UTC), `level`, `logger`, `event`,
then those of `FIELDS` that it is about, and `exception` (a traceback) where there was one.
"""

import asyncio
import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

FIELDS = {
    # Bound for all that is logged for a request.
    "request_id": "of the HTTP request, as in its X-Request-Id; further parts after a - for single answers",
    "trace_id": "where traces are on",
    # What a line is about.
    "model": "name in the catalog",
    "worker": "id of the process",
    "phase": "that a request was in: queue, prefill or decode",
    "seconds": "what it took",
    "phases": "seconds of each phase of a switch",
    "error": "what went wrong, as a sentence",
    "reason": "why something was done",
    "how": "how a process ended",
    "on": "what the controller was at",
    "evicted": "models that had to give way",
    "source": "residency that a model comes from",
    "sleep_level": "1 keeps weights in host memory, 2 drops them",
    "failures": "in a row",
    "growth_bytes": "memory that a worker kept",
    "swaps": "loads that a worker has had",
    "profile": "its name",
    "name": "of an access key",
    "scope": "what that key may do",
    "client": "address that a key was refused to",
    "refused": "how often since this was last told",
    # Of a request of the API.
    "method": "HTTP method",
    "path": "of its URL",
    "status": "HTTP status",
    "tokens": "of its answer",
    "key": "name of the API key that it came with",
}
"""What lines may be about besides; a test holds every line of ours to it."""
FIRST = ("timestamp", "level", "logger", "event", "request_id")

QUIET_LIBRARIES = {
    "asyncio": logging.WARNING,
    "gradio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "opentelemetry": logging.WARNING,
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
        [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer()]
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
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut_connection)
    if level != "debug":
        for name, library_level in QUIET_LIBRARIES.items():
            logging.getLogger(name).setLevel(library_level)


def _in_order(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """The fields that every line has first, so that lines can be read below each other."""
    return {name: line[name] for name in FIRST if name in line} | dict(line)


def _is_no_cut_connection(record: logging.LogRecord) -> bool:
    """False for what uvicorn logs as errors when a stop cuts off browsers that are still connected."""
    if record.exc_info and record.exc_info[0] is asyncio.CancelledError:
        return False
    return not record.getMessage().startswith("Cancel ")
