"""KV caches are asked for one question at a time, and a slow engine holds nobody up."""

import asyncio

import pytest

from tests.made_up_kv import busy
from workbench import kv_caches
from workbench.kv_caches import KvCaches


class Engine:
    """Answers when it may."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.asked = 0
        self.error: Exception | None = None

    async def kv_snapshot(self):
        self.asked += 1
        await self.free.wait()
        if self.error:
            raise self.error
        return busy()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(kv_caches, "ANSWER_WAIT_S", 0.02)
    monkeypatch.setattr(kv_caches, "MAX_SHARE", 1e9)  # ask again at once


async def test_a_fresh_picture_of_each_serving_model():
    engines = {"adder": Engine(), "storyteller": Engine()}
    views = await KvCaches(lambda: engines).look()
    assert [view.model for view in views] == ["adder", "storyteller"]
    assert all(view.snapshot and not view.waiting_s and not view.failed for view in views)


async def test_an_engine_in_a_long_step_is_shown_as_it_was_and_asked_once():
    engine = Engine()
    caches = KvCaches(lambda: {"adder": engine})
    (first,) = await caches.look()
    engine.free.clear()
    for _ in range(3):
        (view,) = await caches.look()
        assert view.snapshot is first.snapshot
        assert view.waiting_s > 0
    assert engine.asked == 2
    engine.free.set()
    (view,) = await caches.look()
    assert view.waiting_s == 0
    assert view.snapshot is not first.snapshot


async def test_a_quick_engine_does_not_wait_for_a_slow_one_for_long():
    slow, quick = Engine(), Engine()
    slow.free.clear()
    views = await KvCaches(lambda: {"slow": slow, "quick": quick}).look()
    assert [view.snapshot is not None for view in views] == [False, True]


async def test_a_model_that_left_is_forgotten_and_its_question_dropped():
    engine, clients = Engine(), {}
    clients["adder"] = engine
    caches = KvCaches(lambda: clients)
    engine.free.clear()
    await caches.look()
    (question,) = [task for task in asyncio.all_tasks() if task.get_name() == "kv cache of adder"]
    clients.clear()
    assert await caches.look() == []
    await asyncio.wait({question}, timeout=5)
    assert question.cancelled()
    clients["adder"] = other = Engine()
    (view,) = await caches.look()
    assert view.snapshot is not None
    assert other.asked == 1


async def test_an_engine_that_fails_says_so_until_it_answers_again():
    engine = Engine()
    caches = KvCaches(lambda: {"adder": engine})
    await caches.look()
    engine.error = RuntimeError("no")
    (view,) = await caches.look()
    assert (view.failed, view.snapshot is not None) == (True, True)
    engine.error = None
    (view,) = await caches.look()
    assert not view.failed


async def test_a_pool_that_takes_long_to_read_is_read_less_often(monkeypatch):
    monkeypatch.setattr(kv_caches, "MAX_SHARE", 1e-9)
    engine = Engine()
    caches = KvCaches(lambda: {"adder": engine})
    for _ in range(3):
        await caches.look()
    assert engine.asked == 1


async def test_nothing_is_left_behind_when_it_closes():
    engine = Engine()
    engine.free.clear()
    caches = KvCaches(lambda: {"adder": engine})
    await caches.look()
    caches.close()
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("kv cache")] == []
