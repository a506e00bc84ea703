"""The event stream: a frame at once, frames on change, signs of life, an end."""

import asyncio
import itertools
import json
from dataclasses import asdict
from types import SimpleNamespace

from tests.ui.fake_workbench import FakeWorkbench
from workbench.api import events
from workbench.api.events import Frames, FrameSource, Looks
from workbench.ui import ids
from workbench.ui.render import live
from workbench.values import LOCAL


async def everything(pool, models) -> dict:
    return {"data": {"warm": pool.warm, "models": [asdict(model) for model in models]}}


def frames_of(workbench, view=everything, **source) -> Frames:
    return Frames(Looks(workbench), FrameSource(view, **source), "this server")


def parse(event: str) -> tuple[str, dict]:
    name, data = event.strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def next_frame(stream) -> dict:
    async for event in stream:
        name, data = parse(event)
        if name == "frame":
            return data
    raise AssertionError("the stream ended")


async def test_the_first_frame_comes_at_once_and_the_next_on_change(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    workbench = FakeWorkbench(step_s=0)
    stream = frames_of(workbench).stream()
    first = await next_frame(stream)
    assert first["data"]["warm"] is True
    assert first["data"]["models"][0]["residency"] == "disk"
    await workbench.load("adder")
    frame = first
    while frame["data"]["models"][0]["residency"] != "device":  # a frame may fall into the load
        frame = await next_frame(stream)
    assert frame["server"] == first["server"]
    await stream.aclose()


async def test_a_change_of_the_catalog_alone_is_seen(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    workbench = FakeWorkbench()
    stream = frames_of(workbench).stream()
    await next_frame(stream)
    await workbench.remove_model("broken")
    assert "broken" not in [model["name"] for model in (await next_frame(stream))["data"]["models"]]
    await stream.aclose()


async def test_a_quiet_server_gives_signs_of_life(monkeypatch):
    monkeypatch.setattr(events, "BEAT_INTERVAL", 0.01)
    stream = frames_of(FakeWorkbench()).stream()
    await next_frame(stream)
    assert parse(await anext(stream))[0] == "beat"
    await stream.aclose()


async def test_a_restless_page_is_looked_at_though_the_pool_is_quiet(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    looks = itertools.count()

    async def view(pool, models) -> dict:
        return {"data": {"third": next(looks) >= 3}}

    stream = frames_of(FakeWorkbench(), view, restless=True).stream()
    assert (await next_frame(stream))["data"]["third"] is False
    assert (await next_frame(stream))["data"]["third"] is True, "and what has not changed is not sent"
    await stream.aclose()


async def test_what_has_not_changed_is_not_sent_again_and_a_new_client_gets_all(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    shown = {"html": {"still": "<p>still</p>", "moving": "0"}, "data": {"list": [1]}}

    async def view(pool, models) -> dict:
        return {section: dict(parts) for section, parts in shown.items()}

    def told(frame: dict) -> dict:
        return {name: part for name, part in frame.items() if name not in ("server", "now")}

    frames = frames_of(FakeWorkbench(), view, restless=True)
    quick, slow = frames.stream(), frames.stream()
    assert told(await next_frame(quick)) == told(await next_frame(slow)) == shown
    shown["html"]["moving"] = "1"
    assert told(await next_frame(quick)) == {"html": {"moving": "1"}}
    shown["data"]["list"] = [1, 2]
    assert told(await next_frame(quick)) == {"data": {"list": [1, 2]}}
    late = frames.stream()
    assert told(await next_frame(late)) == shown
    assert told(await next_frame(slow)) == {"html": {"moving": "1"}, "data": {"list": [1, 2]}}, "all it lacks"
    for stream in (quick, slow, late):
        await stream.aclose()
    again = frames.stream()
    assert told(await next_frame(again)) == shown, "from a producer of its own"
    await again.aclose()


async def test_of_the_pool_page_only_the_panels_that_changed_are_sent(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    monkeypatch.setattr(live, "TIMELINE_EVERY_S", 1e9)
    workbench = FakeWorkbench(step_s=0)
    await workbench.load("adder")
    stream = Frames(Looks(workbench), live.sources(workbench)["pool"], "this server").stream()
    panels = {ids.DEVICES, ids.WORKERS, ids.WAITERS, ids.TIMELINE, ids.DEPARTURES, ids.LOADER}
    assert (await next_frame(stream))["html"].keys() == panels | {ids.STATUS}
    workbench.in_flight = 1
    workbench.touch()
    changed = (await next_frame(stream))["html"]
    assert ids.WORKERS in changed
    assert not changed.keys() & {ids.WAITERS, ids.DEPARTURES, ids.LOADER, ids.STATUS}
    await stream.aclose()


async def test_pages_get_the_frames_of_what_was_picked_there():
    def choose(choice: str):
        understood = choice if choice in ("a", "b") else "a"

        async def view(pool, models) -> dict:
            return {"data": {"choice": understood}}

        return understood, view

    async def first_frame(query: str) -> dict:
        """Not through an HTTP client: those wait for the end of a stream."""
        request = SimpleNamespace(state=SimpleNamespace(caller=LOCAL))
        response = await endpoint(request, **dict(pair.split("=") for pair in query.split("&")))
        frame = (await next_frame(response.body_iterator))["data"]
        await response.body_iterator.aclose()
        return frame

    pages = {"plain": FrameSource(everything), "picky": FrameSource(choose("")[1], choose=choose)}
    (route,) = events.events_router(FakeWorkbench(), pages).routes
    endpoint = route.endpoint
    assert (await first_frame("page=picky"))["choice"] == "a"
    assert (await first_frame("page=picky&choice=b"))["choice"] == "b"
    assert (await first_frame("page=picky&choice=c"))["choice"] == "a"
    assert "models" in await first_frame("page=plain&choice=b")
    assert "models" in await first_frame("page=unknown&choice=b")


async def test_a_slow_client_gets_the_newest_frame_only(monkeypatch):
    monkeypatch.setattr(events, "FRAME_INTERVAL", 0.01)
    workbench = FakeWorkbench(step_s=0)
    frames = frames_of(workbench)
    slow, quick = frames.stream(), frames.stream()
    await next_frame(slow)
    await next_frame(quick)
    for name in ("smollm2-360m", "qwen3-0.6b", "broken"):
        await workbench.remove_model(name)
        await next_frame(quick)
    assert len((await next_frame(slow))["data"]["models"]) == 2
    await slow.aclose()
    await quick.aclose()


async def test_the_stream_ends_with_the_workbench_and_the_producer_with_its_listeners():
    workbench = FakeWorkbench()
    frames = frames_of(workbench)
    stream = frames.stream()
    await next_frame(stream)
    workbench.close()
    async with asyncio.timeout(5):
        assert [event async for event in stream if "frame" in event] == []

    workbench = FakeWorkbench()
    frames = frames_of(workbench)
    stream = frames.stream()
    await next_frame(stream)
    producer = frames._producer
    await stream.aclose()
    await asyncio.wait({producer}, timeout=5)
    assert producer.done()
    assert frames._producer is None  # whoever comes next gets one that lives
