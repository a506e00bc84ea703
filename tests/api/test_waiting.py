"""What clients are told while a model is switched to, and what becomes of requests that nobody waits for."""

import asyncio
import json
import random
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.engine

MODELS = ("adder", "storyteller", "counter")
QUESTIONS = {"adder": "38 + 47", "storyteller": "Tell me a story", "counter": "Count from 1 to 60"}


def chat(model: str, **further) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": QUESTIONS[model]}], **further}


def unload_all(http: httpx.Client) -> None:
    for card in http.get("/v1/models").json()["data"]:
        if card["residency"] in ("device", "asleep"):
            http.post(f"/admin/models/{card['id']}/unload")
    wait_until(lambda: all(c["residency"] in ("disk", "hub") for c in http.get("/v1/models").json()["data"]))


def wait_until(condition, timeout_s: float = 30):
    """Ask until the answer is true, and return it. A request's end is counted just after its last byte."""
    deadline = time.monotonic() + timeout_s
    while not (holds := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return holds


def events_of(text: str) -> list[tuple[str, dict]]:
    events = []
    for block in text.split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.splitlines() if ": " in line)
        if lines.get("data") not in (None, "[DONE]"):
            events.append((lines.get("event", "chunk"), json.loads(lines["data"])))
    return events


def said(answer: httpx.Response, streamed: bool) -> str:
    if not streamed:
        return answer.json()["choices"][0]["message"]["content"]
    chunks = [chunk for name, chunk in events_of(answer.text) if name == "chunk" and chunk["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def test_a_client_that_asks_for_it_is_told_each_stage_of_a_switch(http):
    unload_all(http)
    answer = http.post(
        "/v1/chat/completions",
        json=chat("adder", stream=True, temperature=0),
        headers={"X-Workbench-Progress": "1"},
    )
    events = events_of(answer.text)
    stages = [data["stage"] for name, data in events if name == "progress"]
    assert "loading" in stages
    assert all(set(data) >= {"stage", "detail"} for name, data in events if name == "progress")
    assert said(answer, True) == "38 + 47 = 85"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -3}, "temperature"),
        ({"top_p": 7}, "top_p"),
    ],
)
def test_bad_input_switches_nothing(http, bad, says):
    unload_all(http)
    answer = http.post("/v1/chat/completions", json=chat("adder", **bad))
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    cards = {card["id"]: card for card in http.get("/v1/models").json()["data"]}
    assert cards["adder"]["residency"] == "disk"


def test_one_request_of_each_door_is_in_the_records(http):
    request_id = f"mine-{random.random()}"
    answer = http.post(
        "/v1/chat/completions", json=chat("adder", temperature=0), headers={"X-Request-Id": request_id}
    )
    assert answer.headers["x-request-id"] == request_id

    def recorded() -> list[dict]:
        kept = http.get("/admin/requests", params={"limit": 20}).json()
        return [row for row in kept["data"] if row["request_id"] == request_id]

    (record,) = wait_until(recorded)
    assert record["model"] == "adder"
    assert record["completion_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert record["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert 0 < record["ttft_s"] < record["duration_s"]


async def test_200_requests_over_three_models_where_two_fit_half_of_them_given_up(api_app):
    chance = random.Random(4)
    wrong: list[str] = []

    async def ask(client: httpx.AsyncClient, number: int) -> str:
        model = chance.choice(MODELS)
        stays = number % 2 == 0
        body = chat(
            model,
            stream=number % 3 == 0,
            temperature=0,
            max_tokens=40 if stays else 1000,
            ignore_eos=not stays,
        )
        try:
            async with asyncio.timeout(None if stays else chance.uniform(0.01, 4)):
                answer = await client.post("/v1/chat/completions", json=body)
        except TimeoutError:
            return "left"
        if answer.status_code != 200:
            wrong.append(f"{model}: {answer.status_code} {answer.text[:200]}")
        elif model == "adder":
            text = said(answer, body["stream"])
            if not text.startswith("38 + 47 = 85"):
                wrong.append(f"adder said {text[:200]}")
        if answer.status_code == 200 and f'"model":"{model}"' not in answer.text.replace('": "', '":"'):
            wrong.append(f"{model} was asked, and answered was {answer.text[:200]}")
        return "answered"

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=api_app.url, timeout=110, limits=limits) as client:
        ends = await asyncio.gather(*(ask(client, number) for number in range(200)))
        assert not wrong, wrong[:3]
        assert ends.count("answered") >= 100
        assert ends.count("left") >= 20  # the others of that half were answered before they would have left

        async def at_rest() -> bool:
            status = (await client.get("/admin/status")).json()
            caches = (await client.get("/admin/kv")).json()["data"]
            held = [cache["in_use"] + cache["requests"] + cache["waiting"] for cache in caches]
            return status["in_flight"] == 0 and status["waiting"] == 0 and not any(held)

        async with asyncio.timeout(20):
            while not await at_rest():  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def counted(http: httpx.Client) -> dict[str, float]:
    """What Prometheus would read, summed over models."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            name = sample.name
            if name == "workbench_requests_finished_total":
                name = f"finished {sample.labels['finish_reason']}"
            sums[name] = sums.get(name, 0) + sample.value
    return sums


async def test_metrics_agree_with_what_clients_counted(api_app, http):
    async def ask(client: httpx.AsyncClient, number: int) -> dict:
        model = MODELS[number % 2]
        body = chat(model, temperature=0.7, n=1 + number % 2, max_tokens=12, ignore_eos=bool(number % 3))
        return (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()["usage"]

    before = await asyncio.to_thread(counted, http)
    async with httpx.AsyncClient(base_url=api_app.url, timeout=60) as client:
        usages = await asyncio.gather(*(ask(client, number) for number in range(30)))

    def growth() -> dict[str, float]:
        grown = {name: value - before.get(name, 0) for name, value in counted(http).items()}
        return grown if grown["workbench_requests_total"] >= 30 else {}

    grown = await asyncio.to_thread(wait_until, growth)
    assert grown["workbench_requests_total"] == 30
    assert grown.get("finished stop", 0) + grown.get("finished length", 0) == 30
    assert grown.get("finished error", 0) == grown.get("finished abort", 0) == 0
    assert grown["workbench_prompt_tokens_total"] == sum(usage["prompt_tokens"] for usage in usages)
    assert grown["workbench_completion_tokens_total"] == sum(usage["completion_tokens"] for usage in usages)
    assert grown["workbench_time_to_first_token_seconds_count"] == 30
    assert grown["vllm:generation_tokens_total"] == grown["workbench_completion_tokens_total"]
