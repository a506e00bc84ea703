"""The linter that metrics are checked with finds what promtool finds."""

import pytest

from tests.promlint import problems


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("wait_milliseconds", "gauge", "a unit that is not a base unit"),
        ("age_minutes", "gauge", "a unit that is not a base unit"),
        ("size_kilobytes", "gauge", "a unit that is not a base unit"),
        ("wait_ms", "gauge", "an abbreviated unit"),
        ("requests", "counter", "a counter without _total"),
        ("requests_total", "gauge", "_total on what is no counter"),
        ("wait_gauge", "gauge", "its type in its name"),
        ("vllm:wait", "gauge", "a colon"),
        ("waitTime", "gauge", "camelCase"),
        ("request_count", "gauge", "a reserved suffix"),
    ],
)
def test_a_bad_name_is_found(name, kind, problem):
    assert problems(f"# HELP {name} About.\n# TYPE {name} {kind}\n{name} 1\n") == [f"{name}: {problem}"]


def test_a_missing_help_and_bad_labels_are_found():
    text = '# HELP wait_seconds \n# TYPE wait_seconds gauge\nwait_seconds{le="1",modelName="a"} 1\n'
    assert [problem.split(": ")[1] for problem in problems(text)] == [
        "no help text",
        "label le on a gauge",
        "label in camelCase",
    ]


def test_good_names_pass():
    text = (
        "# HELP wait_seconds About.\n# TYPE wait_seconds histogram\n"
        'wait_seconds_bucket{le="1"} 1\nwait_seconds_count 1\n'
        "# HELP read_bytes_total About.\n# TYPE read_bytes_total counter\nread_bytes_total 1\n"
    )
    assert problems(text) == []
