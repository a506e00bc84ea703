"""Rendering: what people read, and that no text from outside becomes markup."""

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.made_up_kv import busy
from tests.ui.fake_workbench import MODELS, FakeWorkbench
from workbench.ui import figures
from workbench.ui.answer import Answer
from workbench.ui.render import chat, latency, markdown, models, picker, pool, workers
from workbench.ui.render.live import sources
from workbench.values import (
    AnswerStats,
    AnswerView,
    ConversationView,
    Departure,
    DeviceSnapshot,
    GivingWay,
    GpuLoad,
    KvCacheView,
    MachineLoad,
    MessageView,
    ModelView,
    PoolDetails,
    PoolSnapshot,
    PresetView,
    Progress,
    RunnerSnapshot,
    SwapRecord,
    SwitchView,
    TimelineRow,
    TimelineSpan,
    Token,
    WaiterSnapshot,
    WorkerSnapshot,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></tr></table><iframe src=//evil>",
    "[click](javascript:alert(1)) ![](http://evil/x.png)",
    "${alert(1)} {{constructor}} `${alert(1)}`",
    '<button data-do="remove" data-value-model="adder">free cookies</button>',
]
STATS = AnswerStats(12, 34, 0, 0.12, 0.0, "", 41.2, 0.9, "stop")


class Structure(HTMLParser):
    """Tags and attribute names of a document: what a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def everywhere(text: str) -> str:
    """Each renderer, with `text` wherever text comes from outside."""
    progress = Progress("loading", text, 1, 2)
    model = ModelView(text, text, "disk", text, 1, 1, 1024, text, text, error=text)
    snapshot = PoolSnapshot(
        (WorkerSnapshot(text, text, text, 1, text, 1, 1, 1, 1, 1, 1),),
        (
            RunnerSnapshot(text, "loading", text, 1, 1, 0, progress),
            RunnerSnapshot(text, "serving", text, 1, 0, 3, None, pinned=True, host_bytes=1, workers=(text,)),
        ),
        (WaiterSnapshot(text, 2, 3, progress),),
        (DeviceSnapshot(text, text, 4, 2, True, 4, 2),),
    )
    details = PoolDetails(
        MachineLoad(2, 1, 2, {text: 0.5}, {text: GpuLoad(0.5, 1, 2)}),
        {text: GivingWay((text,), worker=f"{text}!", stays={text: text})},
        (TimelineRow(text, text, 9, 0, (TimelineSpan(text, "serving", 9, 0),)),),
        (Departure(text, text, text, 2, text, False, 3.0), Departure(text, text, text, 0, text, True, 3.0)),
    )
    answer = Answer(text, 0.0, text="x", token_count=2, first_token_at=0.1)
    stats = replace(STATS, switch_s=1, switch_reason=text)
    versions = (AnswerView("x", text, stats, text), AnswerView("x", text, stats, ""))
    message = MessageView("x", text, stats, text, id=1, role="assistant", versions=versions)
    return "\n".join(
        [
            chat.question(text, "turn-1", replace(message, content=text)),
            chat.turn(message),
            chat.turn(replace(message, compared=True)),
            chat.growing([answer, replace(answer, text="", progress=progress)], 1, "turn-1", "x"),
            chat.failed([answer], "answer", text),
            *(html for _, html in chat.refused(text, [text], text)),
            chat.conversation_list([ConversationView(1, text, text, 0)]),
            chat.conversation_list([], text),
            chat.preset_options([PresetView(text, text, {})]),
            latency.switches(hostile_switches(text)),
            pool.devices(snapshot, details, [model, replace(model, name=f"{text}!", pinned=True)]),
            pool.waiters(snapshot.waiters, details),
            workers.workers(snapshot, details),
            workers.timeline(details),
            workers.departures(details),
            *live_html(snapshot, [model, replace(model, residency="broken")]),
        ]
    )


def hostile_switches(text: str) -> list[SwitchView]:
    record = SwapRecord(text, text, text, 1.0, text, (text, text), "ok", total_s=1.0, weights_s=0.5)
    failed = replace(record, outcome="failed", error=text)
    return [SwitchView(record, 12.0, 0.5), SwitchView(failed, None, None)]


def live_html(snapshot: PoolSnapshot, models: list[ModelView]) -> list[str]:
    """The live panels of every page."""

    async def frames() -> list[dict]:
        workbench = FakeWorkbench()
        workbench.kv = [KvCacheView(models[0].name, busy()), KvCacheView(models[0].name, None)]
        return [await source.view(snapshot, models) for source in sources(workbench).values()]

    return [html for frame in asyncio.run(frames()) for html in frame["html"].values()]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_tag_and_no_attribute(text: str):
    assert Structure(everywhere(text)).seen == Structure(everywhere("harmless")).seen


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "around",
    ["{}", "`{}`", "```html\n{}\n```", "```{}\nx\n```", "$\\text{{{}}}$", "[x]({})", "<think>{}</think>y"],
)
def test_an_answer_can_only_be_text_code_links_and_formulas(text: str, around: str):
    structure = Structure(markdown.answer(around.format(text)))
    assert {tag for tag, _ in structure.seen} <= ALLOWED
    assert {name for _, names in structure.seen for name in names} <= {
        "class", "href", "target", "rel", "tabindex", "type", "data-copy-code", "open",
        "xmlns", "display", "stretchy",
    }  # fmt: skip
    assert "javascript:" not in "".join(structure.links)


ALLOWED = {
    *("a", "br", "em", "li", "ol", "p", "span", "strong", "ul"),
    *("button", "code", "details", "div", "pre", "summary"),
    *("math", "mi", "mn", "mo", "mrow", "mstyle", "mtext", "msub", "msup"),
}


def test_an_answer_is_markdown_with_code_tables_and_formulas():
    html = markdown.answer(
        "**bold**\n\n|a|\n|-|\n|1|\n\n```python\ndef x(): pass\n```\n\n$$\\frac{1}{2}$$ costs $5"
    )
    assert "<strong>bold</strong>" in html
    assert "<td>1</td>" in html
    assert '<span class="k">def</span>' in html
    assert "<mfrac>" in html
    assert "costs $5" in html


@pytest.mark.parametrize(
    "target", ["javascript:x", "ssh://x", "/chat/1/export", "file:///etc", "data:text/html,x"]
)
def test_links_lead_to_the_web_alone(target: str):
    assert "<a" not in markdown.answer(f"[x]({target})")


def test_a_very_long_answer_is_shown_as_it_is():
    assert markdown.answer("**x** " * 50_000).startswith('<div class="written"><pre class="plain"')


def test_links_lead_away_safely_and_images_are_not_loaded():
    html = markdown.answer("[x](https://a.b) ![cat](https://c.d/e.png) https://f.g")
    assert html.count('rel="noopener noreferrer nofollow"') == 2
    assert "<img" not in html
    assert "cat" in html


@pytest.mark.parametrize(
    ("text", "thought", "open_ended", "said"),
    [
        ("<think>hm</think>yes", "hm", False, "yes"),
        ("<think>hm", "hm", True, ""),
        ("hm</think>yes", "hm", False, "yes"),
        ("<think>a -> b>", "a -> b>", True, ""),
        ("\n" * 100_000, "", False, "\n" * 100_000),
        ("1 < 2 and <thinking> is a tag", "", False, "1 < 2 and <thinking> is a tag"),
    ],
)
def test_thinking_is_set_apart(text, thought, open_ended, said):
    assert markdown.split_thinking(text) == (thought, open_ended, said)


@pytest.mark.parametrize("latex", ["\\frac{", "\\left( x", "x" * 5000])
def test_what_is_no_formula_is_shown_as_it_was_written(latex):
    assert markdown.formula(latex, "inline") == f"<code>{latex}</code>"


def test_models_that_are_here_come_first_and_keep_their_places_in_a_switch():
    serving = replace(MODELS[1], residency="device")
    shown = picker.models([MODELS[2], serving, MODELS[0]], {"adder": 0.09})
    assert [(model["name"], model["label"]) for model in shown] == [
        ("adder", "on disk"),
        ("storyteller", "serving"),
        ("qwen3-0.6b", "not downloaded"),
    ]
    assert shown[0]["facts"] == "3.4 MB · 256 context · switch takes about 90 ms"


def test_a_model_on_its_way_tells_how_far_it_is_and_can_be_given_up():
    loading = Progress("loading", "Loading adder", 1_000_000, 3_400_000)
    shown = picker.models(MODELS[:2], {"adder": 0.09}, [WaiterSnapshot("adder", 1, 70.0, loading)])
    assert (shown[0]["facts"], shown[0]["since"]) == ("Loading adder 1.0 of 3.4 MB", 70.0)
    assert shown[0]["tools"] == (("cancel_load", "Cancel"),)
    assert shown[1]["tools"] == (("load", "Load"),)


def test_a_model_that_is_not_here_says_so():
    (model,) = picker.models([MODELS[2]], {})
    assert (model["servable"], model["note"]) == (False, "qwen3-0.6b is not downloaded yet.")


def test_a_switch_is_told_with_its_time_and_reason():
    line = chat.stats_line(replace(STATS, switch_s=0.31, switch_reason="loaded from disk, evicting x"))
    text = re.sub(r"<[^>]+>", "", line)
    assert text == (
        "34 tokens · 41.2 tokens/s · first token after 0.12 s · "
        "switched in 0.31 s (loaded from disk, evicting x)"
    )
    assert "switched" not in chat.stats_line(STATS)


def test_an_answer_that_was_cut_says_so():
    assert "cut at the token limit" in chat.stats_line(replace(STATS, finish_reason="length"))


def test_waiting_shows_bytes_and_seconds():
    text = re.sub(
        r"<[^>]+>",
        "",
        chat.waiting(Progress("loading", "Loading weights", 1_200_000_000, 1_900_000_000), 3.7),
    )
    assert text == "Loading weights 1.2 of 1.9 GB3.7 s"


def test_a_pool_that_warms_says_how_far():
    workbench = FakeWorkbench()
    workbench.warm_workers = 1
    assert "Warming up: 1 of 2 workers ready" in pool.status(workbench.pool())
    assert pool.warming(workbench.pool()) == ""
    workbench.warm_workers = 0
    assert "Warming up: 0 of 2 workers ready" in pool.warming(workbench.pool())
    assert "Starting the pool" in pool.status(PoolSnapshot())


def test_only_models_on_disk_can_be_loaded():
    assert re.findall(r"<option>([^<]+)", pool.loader(MODELS)) == ["adder", "storyteller"]
    assert "disabled" in pool.loader([])


@pytest.mark.parametrize(
    ("residency", "offers"),
    [
        ("hub", "Download Remove"),
        ("downloading", "Cancel"),
        ("disk", "Load Remove"),
        ("device", "Unload"),
        ("broken", "Remove"),
    ],
)
def test_the_catalog_offers_what_makes_sense(residency, offers):
    html = models.catalog([replace(MODELS[0], residency=residency)])
    assert re.findall(r'title="(\w+)"', html) == offers.split()


def test_a_download_that_was_cancelled_can_go_on():
    assert "Resume" in models.catalog([replace(MODELS[2], download_done_bytes=5)])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (64_000_000, "64.0 MB"), (999_960_000, "1.0 GB")],
)
def test_sizes(value, text):
    assert figures.size(value) == text


def test_progress_is_told_in_the_unit_of_the_whole():
    assert figures.size_of(1_200_000_000, 1_900_000_000) == "1.2 of 1.9 GB"
    assert figures.size_of(310_000_000, 724_000_000) == "310 of 724 MB"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.085, "85 ms"), (0.314, "0.31 s"), (0.9951, "1.0 s"), (4.21, "4.2 s"), (75.4, "75 s")],
)
def test_latencies(value, text):
    assert figures.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(8, "8 s"), (185, "3 min"), (7500, "2 h 5 min"), (352_800, "4 d 2 h")]
)
def test_ages(value, text):
    assert figures.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "–"), (860_000, "860 K"), (999_700, "1.0 M"), (1_720_000_000, "1.7 B")]
)
def test_parameter_counts(value, text):
    assert figures.parameters(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "–"), (512, "512"), (2048, "2k"), (32768, "32k"), (40_960, "40k")]
)
def test_context_lengths(value, text):
    assert figures.context(value) == text


def test_the_speed_of_a_growing_answer_is_told_once_there_is_enough_to_tell():
    answer = Answer("adder", 1.0)
    answer.add(Token("a few at once", 5), 2.0)
    answer.add(Token(" as they came", 11), 2.0)
    assert "11 tokens" in chat.growing_line(answer, 2.00001)
    assert "tokens/s" not in chat.growing_line(answer, 2.00001)
    answer.add(Token(" more", 21), 2.5)
    assert "20.0 tokens/s" in chat.growing_line(answer, 2.5)
