"""The Chat page in a browser, over the fake workbench: what a person does, sees and keeps."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browsing import answers, model, open_page, pick, send, wait_until
from tests.ui.conftest import Server
from tests.ui.fake_workbench import FakeWorkbench

pytestmark = pytest.mark.e2e


def test_a_model_is_picked_answers_and_switches(chat: Page):
    expect(model(chat)).to_contain_text(re.compile("adder.*on disk"))
    send(chat, "2 + 3")
    expect(answers(chat).last).to_contain_text("adder says: 2 + 3")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("switched in")
    expect(model(chat)).to_contain_text(re.compile("adder.*serving"))
    pick(chat, "storyteller")
    send(chat, "a fox")
    expect(answers(chat).last).to_contain_text("storyteller says: a fox")
    expect(model(chat)).to_contain_text(re.compile("storyteller.*serving"))
    expect(chat.get_by_label("Message", exact=True)).to_have_value("")


def test_the_wait_is_explained_and_the_answer_streams_until_stopped(chat: Page, workbench: FakeWorkbench):
    workbench.step_s = 0.2
    send(chat, "slow")
    expect(chat.get_by_test_id("waiting")).to_contain_text(re.compile(r"Loading weights \d\.\d of 1\.9 GB"))
    expect(answers(chat).last).to_contain_text("word1")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("tokens/s")
    expect(chat.get_by_role("button", name="Send")).to_be_hidden()
    chat.get_by_role("button", name="Stop").click()
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("stopped")
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    assert workbench.aborted == 1


def test_a_closed_page_aborts_its_answer(
    browser: Browser, server: Server, chat: Page, workbench: FakeWorkbench
):
    page = browser.new_page()
    open_page(page, server)
    send(page, "slow")
    expect(answers(page).last).to_contain_text("word1")
    page.close()
    expect(chat.locator("#pool-workers")).to_be_attached()
    wait_until(chat, lambda: workbench.aborted == 1)


def test_errors_come_as_sentences_and_the_chat_goes_on(chat: Page):
    send(chat, "fail")
    expect(answers(chat).last).to_contain_text("adder says:")
    expect(answers(chat).last.get_by_test_id("error")).to_have_text(
        "The worker that ran adder died. Send the message again."
    )
    send(chat, "boom")
    expect(chat.get_by_test_id("error").last).to_contain_text(
        "inside Workbench: ZeroDivisionError. The log has"
    )
    send(chat, "again")
    expect(answers(chat).last).to_contain_text("adder says: again")


def test_refused_text_is_not_lost(chat: Page):
    send(chat, "far too long")
    expect(chat.get_by_test_id("error")).to_contain_text("700 tokens")
    expect(chat.get_by_label("Message", exact=True)).to_have_value("far too long")
    chat.get_by_label("Temperature").fill("hot")
    send(chat, "hello")
    expect(chat.get_by_test_id("error").last).to_contain_text("Temperature must be a number, not “hot”.")
    expect(chat.get_by_label("Message", exact=True)).to_have_value("hello")


def test_parameters_and_system_prompt_arrive(chat: Page, workbench: FakeWorkbench):
    chat.get_by_label("System prompt").fill("Be brief.")
    chat.get_by_label("Temperature").fill("0")
    chat.get_by_label("Max tokens").fill("64")
    send(chat, "hello")
    expect(answers(chat).last).to_contain_text("adder says")
    _, (_, _, system, options) = workbench.calls[-1]
    assert (system, options.temperature, options.max_tokens, options.top_p) == ("Be brief.", 0, 64, None)


def test_a_model_that_is_not_here_points_to_the_models_page(chat: Page):
    pick(chat, "qwen3-0.6b")
    expect(chat.locator("#model-note")).to_contain_text("is not downloaded yet")
    send(chat, "hello")
    expect(chat.get_by_test_id("error")).to_contain_text("not downloaded")
    chat.locator("#model-note a").click()
    expect(chat.get_by_role("heading", name="Models", exact=True)).to_be_visible()
    expect(chat).to_have_url(re.compile("/models$"))


def test_conversations_are_kept_renamed_and_deleted(chat: Page, server: Server):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    expect(chat).to_have_url(re.compile(r"\?chat=\d+$"))
    chat.reload()
    expect(answers(chat).last).to_contain_text("adder says: first")
    expect(chat.get_by_test_id("stats")).to_contain_text("first token after")

    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    expect(chat).to_have_url(re.compile("/$"))
    send(chat, "second")
    expect(chat.get_by_test_id("conversation")).to_have_count(2)
    chat.get_by_role("link", name="first").click()
    expect(answers(chat).last).to_contain_text("adder says: first")

    chat.get_by_role("button", name="Rename first").click()
    chat.get_by_role("dialog").get_by_role("textbox").fill("Sums <b>")
    chat.get_by_role("dialog").get_by_role("textbox").press("Enter")
    expect(chat.get_by_role("link", name="Sums <b>")).to_be_visible()

    chat.get_by_role("button", name="Delete Sums <b>").click()
    expect(chat.get_by_test_id("conversation")).to_have_count(1)
    expect(answers(chat)).to_have_count(0)


def test_leaving_an_answer_for_another_conversation_shows_that_one(chat: Page, workbench: FakeWorkbench):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    workbench.step_s = 0.05
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word3")
    chat.get_by_role("link", name="first").click()
    expect(answers(chat).last).to_contain_text("adder says: first")
    wait_until(chat, lambda: workbench.aborted == 1)
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    expect(chat.locator("#chat")).not_to_contain_text("word")


def test_a_rename_leaves_a_running_answer_alone_and_a_deletion_ends_it(chat: Page, workbench: FakeWorkbench):
    send(chat, "first")
    expect(answers(chat).last).to_contain_text("adder says: first")
    chat.get_by_role("button", name="New chat").click()
    expect(answers(chat)).to_have_count(0)
    workbench.step_s = 0.05
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word1")
    chat.get_by_role("button", name="Rename first").click()
    chat.get_by_role("dialog").get_by_role("textbox").fill("second")
    chat.get_by_role("dialog").get_by_role("textbox").press("Enter")
    expect(chat.get_by_role("link", name="second")).to_be_visible()
    written = answers(chat).last.inner_text()
    expect(answers(chat).last).not_to_have_text(written)
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    chat.get_by_role("button", name="Delete slow").click()
    expect(answers(chat)).to_have_count(0)
    wait_until(chat, lambda: workbench.aborted == 1)
    expect(chat.get_by_role("button", name="Send")).to_be_visible()
    expect(answers(chat)).to_have_count(0)


def test_an_answer_goes_on_while_other_pages_are_looked_at(chat: Page, server: Server):
    send(chat, "slow")
    expect(answers(chat).last).to_contain_text("word1")
    chat.get_by_role("link", name="Pool").click()
    expect(chat.get_by_test_id("worker")).to_have_count(2)
    chat.go_back()
    expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    chat.get_by_role("button", name="Stop").click()
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("stopped")


def test_hostile_text_stays_text(chat: Page, workbench: FakeWorkbench):
    hostile = '<img src=x onerror="document.title=1"> ${document.title=2} <button data-do="remove">x</button>'
    send(chat, hostile)
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("first token")
    expect(answers(chat).last).to_contain_text("<img src=x onerror=")
    expect(chat.locator(".said")).to_have_text(hostile)
    send(chat, "say:![](http://127.0.0.2/tracker.png) [x](javascript:document.title=3)")
    expect(answers(chat).last.get_by_test_id("stats")).to_contain_text("first token")
    assert chat.locator("#thread :is([data-do], [onerror], a[href^=javascript], img)").count() == 0
    expect(chat).to_have_title(re.compile(r"^[A-Z]\w+ · Workbench$"))
    name = '${document.title=4}{{value}}"><script>document.title=5</script>'
    workbench.catalog = {name: replace(workbench.catalog["adder"], name=name, description=name)}
    workbench.touch()
    expect(model(chat)).to_contain_text(name)
    expect(chat.locator("#model-note")).to_contain_text(name)
    chat.get_by_role("link", name="Models", exact=True).click()
    expect(chat.get_by_test_id("model").locator("strong")).to_have_text(name)
    expect(chat).to_have_title(re.compile(r"^[A-Z]\w+ · Workbench$"))


def test_an_answer_is_given_again_by_another_model_and_the_first_is_kept(chat: Page):
    send(chat, "2 + 3")
    expect(answers(chat)).to_contain_text("adder says: 2 + 3")
    pick(chat, "storyteller")
    chat.get_by_role("button", name="Answer again").click()
    expect(answers(chat)).to_contain_text("storyteller says: 2 + 3")
    expect(answers(chat)).to_contain_text("2 / 2")
    chat.get_by_role("button", name="Earlier version").click()
    expect(answers(chat)).to_contain_text("adder says: 2 + 3")
    chat.reload()
    expect(answers(chat)).to_contain_text("1 / 2")
    expect(answers(chat)).to_contain_text("adder says")


def test_an_answer_is_continued_and_edited(chat: Page):
    send(chat, "on")
    expect(answers(chat)).to_contain_text("adder says: on")
    chat.get_by_role("button", name="Continue").click()
    expect(answers(chat)).to_contain_text("adder says: on on")
    answers(chat).get_by_role("button", name="Edit").click()
    chat.get_by_label("Edit the message").fill("**Changed** by hand")
    chat.get_by_role("button", name="Save", exact=True).click()
    expect(answers(chat).locator("strong")).to_have_text("Changed")


def test_the_last_question_is_edited_and_answered_anew(chat: Page):
    send(chat, "2 + 3")
    expect(answers(chat).get_by_test_id("stats")).to_be_visible()
    chat.get_by_test_id("question").hover()
    chat.get_by_test_id("question").get_by_role("button", name="Edit").click()
    chat.get_by_label("Edit the message").fill("4 + 4")
    chat.get_by_role("button", name="Save and answer").click()
    expect(answers(chat)).to_contain_text("adder says: 4 + 4")
    expect(chat.locator(".said")).to_have_text("4 + 4")


def test_an_earlier_question_is_changed_in_a_branch(chat: Page):
    for text in ("one", "two"):
        send(chat, text)
        expect(answers(chat).last).to_contain_text(f"adder says: {text}")
    chat.get_by_test_id("question").first.hover()
    chat.get_by_test_id("question").first.get_by_role("button", name="Edit").click()
    chat.get_by_label("Edit the message").fill("three")
    chat.get_by_role("button", name="Branch and answer").click()
    expect(answers(chat)).to_have_count(1)
    expect(answers(chat)).to_contain_text("adder says: three")
    chat.get_by_role("link", name="one", exact=False).last.click()
    expect(answers(chat)).to_have_count(2)
    answers(chat).first.hover()
    answers(chat).first.get_by_role("button", name="Branch from here").click()
    expect(chat.get_by_test_id("conversation")).to_have_count(3)
    expect(answers(chat)).to_have_count(1)


def test_conversations_are_searched_exported_and_imported(chat: Page, tmp_path):
    for text in ("about foxes", "about bears"):
        send(chat, text)
        expect(answers(chat).last).to_contain_text(text)
        with chat.expect_download() as download:
            chat.get_by_role("link", name="Export JSON").click()
        download.value.save_as(tmp_path / f"{text}.json")
        chat.get_by_role("button", name="New chat").click()
        expect(answers(chat)).to_have_count(0)
    chat.get_by_label("Search conversations").fill("FOXES")
    expect(chat.get_by_test_id("conversation")).to_have_count(1)
    chat.get_by_label("Search conversations").fill("wolves")
    expect(chat.locator("#conversations")).to_contain_text("Nothing was said about “wolves”.")
    chat.get_by_label("Search conversations").fill("")
    chat.locator("#import-file").set_input_files(tmp_path / "about foxes.json")
    expect(answers(chat)).to_contain_text("adder says: about foxes")
    expect(chat.get_by_test_id("conversation")).to_have_count(3)
    broken = tmp_path / "broken.json"
    broken.write_text('{"messages": [{"role": "robot"}]}')
    chat.locator("#import-file").set_input_files(broken)
    expect(chat.locator(".toast.bad")).to_contain_text("The file is no conversation: messages.0.role")
