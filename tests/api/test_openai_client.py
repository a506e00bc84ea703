"""OpenAI's official client against the demo models, each endpoint with streaming and without."""

import json

import openai
import pytest

pytestmark = pytest.mark.engine

SUM = [{"role": "user", "content": "38 + 47"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox"}]
COUNT = "Count from 3 to 9"
SCHEMA = {
    "type": "object",
    "properties": {
        "animal": {"enum": ["fox", "owl"]},
        "legs": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["animal", "legs"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "count_legs", "strict": True, "parameters": SCHEMA}}


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_models_are_listed_with_residency_and_context(client):
    models = {model.id: model for model in client.models.list()}
    assert {"adder", "storyteller", "counter"} <= set(models)
    assert models["adder"].max_model_len == 1024
    assert models["adder"].residency in ("disk", "device", "asleep", "loading")
    assert client.models.retrieve("adder").id == "adder"


def test_a_chat_is_answered_by_the_model_it_names(client):
    answer = client.chat.completions.create(model="adder", messages=SUM, temperature=0)
    assert answer.choices[0].message.content == "38 + 47 = 85"
    assert answer.model == "adder"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_chat_streams_with_usage(client):
    stream = client.chat.completions.create(
        model="adder", messages=SUM, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert text_of(chunks) == "38 + 47 = 85"
    assert chunks[-1].usage.completion_tokens > 0


async def test_chats_async_with_streaming_and_without(async_client):
    async with async_client:
        answer = await async_client.chat.completions.create(model="adder", messages=SUM, temperature=0)
        assert answer.choices[0].message.content == "38 + 47 = 85"
        stream = await async_client.chat.completions.create(
            model="adder", messages=SUM, temperature=0, stream=True
        )
        assert text_of([chunk async for chunk in stream]) == "38 + 47 = 85"


def test_sampling_parameters_reach_the_engine(client):
    answer = client.chat.completions.create(
        model="storyteller",
        messages=STORY,
        n=3,
        max_tokens=12,
        temperature=1.0,
        logprobs=True,
        top_logprobs=2,
        extra_body={"ignore_eos": True},
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.finish_reason == "length" for choice in answer.choices)
    assert all(len(choice.logprobs.content) == 12 for choice in answer.choices)
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    seeded = [
        client.chat.completions.create(
            model="storyteller", messages=STORY, seed=7, max_tokens=12, temperature=1
        )
        for _ in range(2)
    ]
    assert seeded[0].choices[0].message.content == seeded[1].choices[0].message.content
    whole = client.chat.completions.create(model="storyteller", messages=STORY, temperature=0, max_tokens=40)
    words = whole.choices[0].message.content.split()
    cut = client.chat.completions.create(
        model="storyteller", messages=STORY, temperature=0, max_tokens=40, stop=[words[4]]
    )
    assert cut.choices[0].message.content.split() == words[: words.index(words[4])]
    assert cut.choices[0].finish_reason == "stop"


def test_structured_outputs(client):
    answer = client.chat.completions.create(
        model="storyteller",
        messages=STORY,
        max_tokens=100,
        temperature=0,
        frequency_penalty=2,  # it likes blank lines, which JSON may have
        response_format={"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}},
    )
    value = json.loads(answer.choices[0].message.content)
    assert value["animal"] in ("fox", "owl")
    choice = client.chat.completions.create(
        model="storyteller", messages=STORY, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
    )
    assert choice.choices[0].message.content in ("yes", "no")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls(client, stream):
    arguments = {
        "model": "storyteller",
        "messages": STORY,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "count_legs"}},
        "max_tokens": 100,
        "temperature": 0,
        "frequency_penalty": 2,
    }
    if stream:
        chunks = client.chat.completions.create(**arguments, stream=True)
        calls = [call for chunk in chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
        name, text = calls[0].function.name, "".join(call.function.arguments or "" for call in calls)
    else:
        call = client.chat.completions.create(**arguments).choices[0].message.tool_calls[0]
        name, text = call.function.name, call.function.arguments
    assert name == "count_legs"
    assert json.loads(text)["animal"] in ("fox", "owl")


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_stands_apart(client, stream):
    def answer(**extra):
        arguments = {"model": "thinker", "messages": SUM, "temperature": 0, "extra_body": extra}
        if not stream:
            message = client.chat.completions.create(**arguments).choices[0].message
            return message.reasoning or "", message.content or ""
        chunks = list(client.chat.completions.create(**arguments, stream=True))
        thought = "".join(getattr(c.choices[0].delta, "reasoning", None) or "" for c in chunks if c.choices)
        return thought, text_of(chunks)

    thought, said = answer()
    assert (thought.strip(), said) == ("38 + 47 = 85", "")
    thought, said = answer(chat_template_kwargs={"enable_thinking": False})
    assert thought == ""
    assert said != ""


@pytest.mark.parametrize("stream", [False, True])
def test_completions(client, stream):
    prompt = "<|im_start|>user\n38 + 47<|im_end|>\n<|im_start|>assistant\n"
    answer = client.completions.create(model="adder", prompt=prompt, temperature=0, stream=stream)
    text = "".join(chunk.choices[0].text for chunk in answer) if stream else answer.choices[0].text
    assert text == "38 + 47 = 85"


@pytest.mark.parametrize("stream", [False, True])
def test_responses(client, stream):
    response = client.responses.create(model="adder", input="38 + 47", temperature=0, stream=stream)
    if stream:
        deltas = [event.delta for event in response if event.type == "response.output_text.delta"]
        assert "".join(deltas) == "38 + 47 = 85"
    else:
        assert response.output_text == "38 + 47 = 85"
        assert response.status == "completed"


def test_embeddings(client):
    answer = client.embeddings.create(model="embedder", input=["12 + 30", "a fox"])
    first, second = (item.embedding for item in answer.data)
    assert len(first) == len(second) == 128
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-3)
    assert first != second
    assert answer.usage.prompt_tokens > 0


def test_scores(http):
    body = {"model": "embedder", "text_1": "12", "text_2": ["13", "a fox"]}
    near, far = (item["score"] for item in http.post("/v1/score", json=body).json()["data"])
    assert near > far
    body = {"model": "embedder", "query": "12", "documents": ["a fox", "13"]}
    results = http.post("/v1/rerank", json=body).json()["results"]
    assert [result["index"] for result in results] == [1, 0]


@pytest.mark.parametrize(
    ("model", "path"), [("embedder", "/v1/chat/completions"), ("adder", "/v1/embeddings")]
)
def test_a_model_says_what_it_is_not_made_for(http, model, path):
    answer = http.post(path, json={"model": model, "messages": SUM, "input": "12"})
    assert answer.status_code == 400
    assert "another kind of model" in answer.json()["error"]["message"]


def test_tokens_there_and_back(http):
    tokens = http.post("/tokenize", json={"model": "counter", "prompt": COUNT}).json()
    assert tokens["count"] == len(tokens["tokens"]) > 0
    text = http.post("/detokenize", json={"model": "counter", "tokens": tokens["tokens"]}).json()
    assert text["prompt"] == COUNT


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"model": "nobody", "messages": SUM}, 404, "no model 'nobody'"),
        ({"messages": SUM}, 400, "names no model"),
        ({"model": "adder"}, 400, "messages"),
        ({"model": "adder", "messages": SUM, "temperature": -1}, 400, "temperature"),
        ({"model": "adder", "messages": SUM, "n": 1000}, 400, "32 are allowed"),
        ({"model": "adder", "messages": SUM * 3000}, 400, "3000 entries"),
        ({"model": "adder", "messages": [{"role": "user", "content": "1 " * 2000}]}, 400, "1024"),
    ],
)
def test_bad_input_is_a_sentence_in_openais_format(http, body, status, says):
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_the_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=SUM)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="adder", messages=[])


def test_a_body_that_is_no_json_or_no_object(http):
    for content in (b"{", b"[]", b"\xff\xfe", b"[" * 100_000):
        answer = http.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, content[:20]
        assert answer.json()["error"]["type"] == "invalid_request_error"
