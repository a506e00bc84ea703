import json

from benchmarks.report import percentile, publish, spread


def test_json_is_one_object_on_one_line(capsys):
    publish(spread("tiny", [0.3, 0.1, 0.2]), as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert figures["tiny_p50_s"] == 0.2
    assert figures["tiny_max_s"] == 0.3
    assert figures["machine"]
    assert figures["vllm"] != "?"


def test_percentiles_are_values_that_occurred():
    values = list(range(1, 21))
    assert percentile(values, 0.5) in values
    assert percentile(values, 0.95) == 19
    assert percentile([7.0], 0.95) == 7.0
