"""A worker's log as JSON lines, with the fields of the app's (`telemetry.logs`). Runs in the worker."""

import json
import logging
import os
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """A record as an object on a line."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "worker": self._worker,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def write_json_lines(worker: str) -> None:
    """Write what is logged here as JSON, vLLM's lines too. Due before vLLM is imported."""
    os.environ["VLLM_CONFIGURE_LOGGING"] = "0"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(worker))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"))
    logging.captureWarnings(True)
