"""The history of the pool: bounded, and true to what the workers held."""

from types import SimpleNamespace

import pytest

from tests.pool.fakes import running, use
from workbench.pool import history
from workbench.pool.history import MAX_SPANS, WINDOW_S, History
from workbench.pool.states import WorkerState


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(value=1000.0)
    monkeypatch.setattr(history.time, "monotonic", lambda: now.value)
    return now


def worker(name="w1", started_at=1000.0):
    return SimpleNamespace(id=name, device="cpu", started_at=started_at, crash_reason="", dismissed=False)


def runner(model, state, *workers):
    return SimpleNamespace(spec=SimpleNamespace(name=model), state=state, workers=workers, holders={1, 2})


def told(row):
    """Model, how it was held, from when and until when."""
    return [(span.model, span.holding, span.began_at, span.ended_at) for span in row.spans]


def test_spans_follow_the_states_of_a_model(clock):
    book, one = History(), worker()
    for state in ("loading", "serving", "serving", "sleeping", "asleep", "waking", "serving", "unloading"):
        book.note([one], [runner("a", state, one)])
        clock.value += 10
    book.note([one], [])
    (row,) = book.rows()
    assert (row.began_at, row.ended_at) == (1000, 0)
    assert told(row) == [
        ("a", "loading", 1000, 1010),
        ("a", "serving", 1010, 1030),
        ("a", "asleep", 1030, 1050),
        ("a", "loading", 1050, 1060),
        ("a", "serving", 1060, 1070),
    ]


def test_a_span_that_lasts_has_no_end_and_a_model_of_several_workers_is_in_each_row(clock):
    book, gang = History(), (worker("w1"), worker("w2", 1001.0))
    book.note(gang, [runner("a", "serving", *gang)])
    clock.value += 5
    assert [told(row) for row in book.rows()] == [[("a", "serving", 1000, 0)]] * 2


def test_of_many_spans_those_that_begin_close_together_give_way_to_the_longest(clock):
    book, one = History(), worker()
    clock.value = 1200.0
    for model, seconds in (("a", 0.25), ("b", 0.5), ("c", 0.125), ("d", 5), ("e", 9)):
        book.note([one], [runner(model, "serving", one)])
        clock.value += seconds
    book.note([one], [])
    assert [span.model for span in book.rows()[0].spans] == ["a", "b", "c", "d", "e"]
    assert [span.model for span in book.rows(most=4)[0].spans] == ["e"]
    assert [span.model for span in book.rows(most=150)[0].spans] == ["a", "b", "c", "d", "e"]


def test_a_dead_worker_stays_for_the_window_and_no_longer(clock):
    book, one = History(), worker()
    book.note([one], [runner("a", "serving", one)])
    clock.value += 10
    book.on_died(one, "was killed (SIGKILL)", runner("a", "serving", one))
    book.note([], [])
    clock.value += 20
    book.note([worker("w2", clock.value)], [])
    alive, dead = book.rows()
    assert (alive.worker, dead.worker, dead.ended_at, told(dead)) == (
        "w2",
        "w1",
        1010,
        [("a", "serving", 1000, 1010)],
    )
    (gone,) = book.departures()
    assert (gone.model, gone.in_flight, gone.how, gone.gone_at) == ("a", 2, "was killed (SIGKILL)", 1010)
    clock.value += WINDOW_S
    book.note([], [])
    assert [row.worker for row in book.rows()] == ["w2"]


def test_it_is_bounded(clock):
    book, one = History(), worker()
    for number in range(3 * MAX_SPANS):
        book.note([one], [runner(f"m{number}", "serving", one)])
        clock.value += 2
    (row,) = book.rows()
    assert len(book._lives["w1"].spans) == MAX_SPANS
    assert len(row.spans) <= history.MAX_SHOWN + 1
    for number in range(50):
        book.on_died(worker(f"w{number}"), "ended", None)
    assert len(book.departures()) == history.MAX_DEPARTURES


async def test_the_controller_keeps_it():
    async with running() as pool:
        await use(pool, "a")
        await pool.until(lambda: pool.states()[WorkerState.SERVING])
        assert pool.controller.timeline()[0].spans[-1].model == "a"
        pool.workers[0].die()
        await pool.until(lambda: pool.controller.departures())
        gone = pool.controller.departures()[0]
        assert (gone.worker, gone.model, gone.expected) == ("w1", "a", False)
