"""What a runner says of itself."""

import pytest

from tests.pool.fakes import FakeWorker
from workbench.engine.spec import ModelSpec
from workbench.pool.runner import Runner


@pytest.mark.parametrize(
    ("device", "level", "detail"),
    [
        ("cpu", 1, "Waking m"),
        ("cuda:0", 1, "Waking m from host memory, 2.0 GB"),
        ("cuda:0", 2, "Waking m from disk, 2.0 GB"),
    ],
)
async def test_a_wake_says_what_it_moves(device, level, detail):
    spec = ModelSpec("m", "/models/m", 2 * 10**9, 10, 0)
    runner = Runner(spec, device, (FakeWorker("w1", device),), 0.0, "host", ())
    runner.state, runner.level = "waking", level
    assert runner.progress().detail == detail
