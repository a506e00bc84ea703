"""What buttons and forms ask for: questions come from refusals, errors are sentences."""

import asyncio
from functools import partial

import pytest

from tests.ui.fake_workbench import FakeWorkbench
from workbench.ui.actions import build_act
from workbench.ui.chat_actions import ChatActions
from workbench.ui.chat_flow import ChatFlow
from workbench.values import LOCAL


@pytest.fixture
def workbench() -> FakeWorkbench:
    return FakeWorkbench(step_s=0)


@pytest.fixture
def act(workbench: FakeWorkbench):
    return partial(build_act(workbench, ChatActions(workbench, ChatFlow(workbench)).known()), caller=LOCAL)


async def test_an_idle_model_is_unloaded_without_a_question(act, workbench):
    await workbench.load("adder")
    assert await act({"do": "unload", "model": "adder"}) == {"done": "adder is unloaded."}
    assert workbench.model("adder").residency == "disk"


async def test_work_in_flight_becomes_a_question_and_consent_forces(act, workbench):
    await workbench.load("adder")
    workbench.in_flight = 3
    reply = await act({"do": "unload", "model": "adder"})
    assert "3 request" in reply["ask"]["more"]
    assert workbench.model("adder").residency == "device"
    assert "done" in await act({"do": "unload", "model": "adder", "confirmed": "yes"})
    reply = await act({"do": "restart", "worker": "worker-1"})
    assert "3 request" in reply["ask"]["more"]
    await act({"do": "restart", "worker": "worker-1", "confirmed": "yes"})
    assert workbench.calls[-1] == ("restart", ("worker-1", True))


async def test_a_load_is_given_up_by_whoever_asked_for_it(act, workbench):
    workbench.step_s = 60
    load = asyncio.ensure_future(act({"do": "load", "model": "adder"}))
    await asyncio.sleep(0)
    cancel = {"do": "cancel_load", "model": "adder"}
    assert await act(cancel) == {"show": {}}
    assert await load == {"done": "The load of adder is cancelled."}
    assert "Stop that message" in (await act(cancel))["error"]
    workbench.step_s = 0
    assert await act({"do": "load", "model": "adder"}) == {"done": "adder is serving."}
    assert await act({"do": "load", "model": "x"}) == {"error": "There is no model named x."}


async def test_removal_asks_first_and_offers_files_only_where_they_were_downloaded(act, workbench):
    assert "option" in (await act({"do": "remove", "model": "smollm2-360m"}))["ask"]
    assert "option" not in (await act({"do": "remove", "model": "qwen3-0.6b"}))["ask"]
    assert "option" not in (await act({"do": "remove", "model": "broken"}))["ask"]
    await act({"do": "remove", "model": "smollm2-360m", "confirmed": "yes", "delete_files": "yes"})
    assert workbench.calls == [("remove_model", ("smollm2-360m", True))]


async def test_a_profile_is_explained_recorded_and_downloaded(act, workbench):
    assert "slows it down" in (await act({"do": "profile", "worker": "worker-1"}))["ask"]["more"]
    confirmed = {"do": "profile", "worker": "worker-1", "confirmed": "yes"}
    assert (await act(confirmed))["download"] == "admin/profiles/worker-1-5-100/trace"
    workbench.pool_admin.profiles.error = "the engine left."
    assert await act(confirmed) == {"error": "worker-1 gave no profile: the engine left."}
    assert "serves no model" in (await act(confirmed | {"worker": "worker-2"}))["error"]


async def test_errors_for_people_come_as_they_are(act):
    assert await act({"do": "unload", "model": "nobody"}) == {"error": "There is no model named nobody."}


@pytest.mark.parametrize(
    "request_", [None, "x", [], {}, {"do": "carry_out"}, {"do": "__init__"}, {"do": ["load"]}]
)
async def test_nonsense_does_nothing(act, request_):
    assert "error" in await act(request_)
