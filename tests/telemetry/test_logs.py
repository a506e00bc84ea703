"""The log: one schema for our lines and those of libraries, as JSON or to be read."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from workbench.telemetry.logs import FIELDS

LEVELS = {"debug", "info", "warning", "error", "exception"}


def logged(as_json: bool, code: str) -> list[str]:
    """What a process of its own writes: logging is the process's."""
    script = (
        "import logging, structlog, warnings\n"
        "from structlog.contextvars import bound_contextvars\n"
        "from workbench.telemetry.logs import configure_logs\n"
        f"configure_logs('info', {as_json})\n{code}"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    return ran.stderr.splitlines()


def test_every_line_is_an_object_with_the_same_fields():
    lines = logged(
        True,
        """
log = structlog.get_logger("workbench.pool")
with bound_contextvars(request_id="mine"):
    log.info("serving", model="adder", worker="w1", seconds=0.2)
    logging.getLogger("vllm.engine").error("no %s", "room")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("it failed", model="adder")
warnings.warn("old")
log.debug("not told")
""",
    )
    ours, library, failed, warning = map(json.loads, lines)
    assert list(ours)[:5] == ["timestamp", "level", "logger", "event", "request_id"]
    assert ours["timestamp"].endswith("Z")
    assert (ours["level"], ours["logger"], ours["event"]) == ("info", "workbench.pool", "serving")
    assert (ours["request_id"], ours["model"], ours["worker"], ours["seconds"]) == (
        "mine",
        "adder",
        "w1",
        0.2,
    )
    assert (library["level"], library["logger"], library["event"]) == ("error", "vllm.engine", "no room")
    assert library["request_id"] == "mine"
    assert "ZeroDivisionError" in failed["exception"]
    assert warning["logger"] == "py.warnings"
    assert "request_id" not in warning


def test_on_a_terminal_a_line_is_to_be_read():
    (line,) = logged(False, "structlog.get_logger('workbench').info('serving', model='adder', seconds=0.2)")
    assert "serving" in line
    assert "model=adder" in line
    assert not line.startswith("{")


def lines_of_ours() -> list[tuple[str, ast.Call]]:
    calls = []
    for path in Path("workbench").rglob("*.py"):
        text = path.read_text()
        if "structlog.get_logger" in text:
            calls += [
                (f"{path}:{node.lineno}", node)
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and ast.unparse(node.func.value) == "log"
            ]
    return calls


def test_our_lines_keep_to_the_schema():
    calls = lines_of_ours()
    assert len(calls) > 30
    for where, call in calls:
        unknown = {keyword.arg for keyword in call.keywords if keyword.arg} - {*FIELDS, "exc_info"}
        assert not unknown, f"{where} logs {unknown}; name it in FIELDS or use one of those"
