"""The demo models in the repository: whole, small, and honest about what they were trained on."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data.demo import conversations, stories, tasks
from data.demo.chat_tokenizer import encode

DEMO = Path(__file__).resolve().parents[2] / "data" / "demo"
ARCHITECTURES = {
    "adder": "LlamaForCausalLM",
    "storyteller": "Qwen3ForCausalLM",
    "counter": "LlamaForCausalLM",
}
MODELS = pytest.mark.parametrize("name", ARCHITECTURES)


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(DEMO / name, local_files_only=True)


def config_of(name: str, file: str = "config.json") -> dict:
    return json.loads((DEMO / name / file).read_text())


def test_the_models_take_15_mb_at_most():
    files = [file for name in ARCHITECTURES for file in (DEMO / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 15_000_000


@MODELS
def test_a_model_says_what_it_is(name):
    config = config_of(name)
    assert config["architectures"] == [ARCHITECTURES[name]]
    assert config["dtype"] == "bfloat16"
    assert config["max_position_embeddings"] == (1024 if name == "adder" else 2048)
    assert (DEMO / name / "README.md").is_file()


@MODELS
def test_an_answer_ends_with_the_end_of_the_message(name):
    tokenizer = tokenizer_of(name)
    assert tokenizer.eos_token == "<|im_end|>"
    assert config_of(name)["eos_token_id"] == tokenizer.eos_token_id
    assert config_of(name, "generation_config.json")["eos_token_id"] == tokenizer.eos_token_id


@MODELS
def test_the_chat_template_renders_every_role(name):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "12+34"},
        {"role": "assistant", "content": "12 + 34 = 46"},
        {"role": "user", "content": "1+1"},
    ]
    text = tokenizer_of(name).apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n12+34<|im_end|>\n"
        "<|im_start|>assistant\n12 + 34 = 46<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@MODELS
@pytest.mark.parametrize("text", ["12 + 34", "ignoré 漢字 \U0001f98a\n\tend", "\u202eabc\x00", "don't  stop"])
def test_any_text_comes_back_from_its_tokens(name, text):
    tokenizer = tokenizer_of(name)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("name", ["adder", "storyteller"])
def test_every_digit_is_a_token(name):
    assert tokenizer_of(name).tokenize("1203") == ["1", "2", "0", "3"]


def test_every_number_of_the_counter_is_a_token():
    tokenizer = tokenizer_of("counter")
    assert all(tokenizer.tokenize(str(number)) == [str(number)] for number in range(tasks.LARGEST_COUNT + 1))
    assert tokenizer.tokenize("9, 10, 100") == ["9", ", ", "10", ", ", "100"]


@MODELS
def test_a_model_answers_greedily_unless_it_tells_stories(name):
    greedy = config_of(name, "generation_config.json").get("top_k") == 1
    assert greedy == (name != "storyteller")


@MODELS
def test_training_sees_the_tokens_of_the_chat_template(name):
    tokenizer, rng = tokenizer_of(name), random.Random(1)
    for earlier in (0, 1, 2, 3) * 5:
        chat = conversations.conversation(rng, name, earlier)
        rendered = tokenizer.apply_chat_template(chat.messages(), tokenize=True, return_dict=False)
        assert encode(tokenizer.backend_tokenizer, chat)[0] == rendered


def test_about_a_tenth_of_the_sums_is_held_out_both_ways_round():
    held_out = tasks.held_out_pairs()
    assert 900 <= len(held_out) <= 1100
    assert all((b, a) in held_out for a, b in held_out)
    assert held_out.isdisjoint(tasks.training_pairs())
    assert len(held_out) + len(tasks.training_pairs()) == 100 * 100


@MODELS
def test_no_chat_to_learn_from_holds_a_held_out_sum(name):
    answers = {tasks.adder_answer(a, b) for a, b in tasks.held_out_pairs()}
    chats = conversations.training_conversations(random.Random(2), name, chained_share=1.0)
    for _ in range(1000):
        assert answers.isdisjoint(turn.assistant for turn in next(chats).turns)


def test_the_counter_refuses_the_steps_that_it_does_not_know():
    rng = random.Random(5)
    assert {tasks.random_count(rng).step for _ in range(1000)} == set(tasks.STEPS)
    assert all(str(step) in tasks.COUNTER_REFUSAL for step in tasks.STEPS)


def test_no_chat_to_learn_from_holds_a_held_out_count():
    rng = random.Random(3)
    counts = [tasks.random_count(rng) for _ in range(3000)]
    assert 200 <= sum(count.held_out for count in counts) <= 400
    held_out = {count.answer for count in counts if count.held_out and len(count.items) > 10}
    learned = {tasks.counter_turn(rng)[1] for _ in range(3000)}
    shared = held_out & learned
    assert len(shared) < len(held_out) / 10, "only counts whose last number is left out may coincide"


@pytest.mark.parametrize(
    ("count", "answer"),
    [
        (tasks.Count(3, 6, 1), "3, 4, 5, 6"),
        (tasks.Count(5, 21, 5), "5, 10, 15, 20"),
        (tasks.Count(10, 8, 1), "10, 9, 8"),
        (tasks.Count(7, 7, 1), "7"),
    ],
)
def test_a_count_ends_at_or_before_its_last_number(count, answer):
    assert count.answer == answer


def test_the_grammar_knows_its_own_stories_and_no_others():
    rng = random.Random(4)
    for _ in range(200):
        hero = stories.random_hero(rng)
        story = stories.tell(rng, hero)
        assert stories.is_story(story, hero.noun, hero.name)
        assert not stories.is_story(story, name="Nobody")
        assert not stories.is_story(story[:-1])
        assert not stories.is_story("Nobody".join(story.rsplit(hero.name, 1)))
