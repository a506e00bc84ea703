"""A worker's log has the fields of the app's."""

import json
import logging
import sys

from workbench.pool.worker_log import JsonLines


def record(**changes) -> logging.LogRecord:
    values = {
        "name": "vllm.engine",
        "levelname": "WARNING",
        "created": 0.5,
        "msg": "no %s",
        "args": ("room",),
    }
    return logging.makeLogRecord(values | {"args": ("room",)} | changes)


def test_a_line_has_the_fields_of_the_apps():
    assert json.loads(JsonLines("w1").format(record())) == {
        "timestamp": "1970-01-01T00:00:00.500000Z",
        "level": "warning",
        "logger": "vllm.engine",
        "event": "no room",
        "worker": "w1",
    }


def test_a_traceback_stays_on_its_line():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        text = JsonLines("w1").format(record(exc_info=sys.exc_info()))
    assert "\n" not in text
    assert "ZeroDivisionError" in json.loads(text)["exception"]
