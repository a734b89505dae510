"""The web chat in a real Chromium, against the server; needs the extra `browser`, and Chromium.

Whatever a test does, the page must ask no other host for anything and complain of nothing on its console, its
Content-Security-Policy included.
"""

import json
import os
import re
import time

import pytest

from tests.edgesdk.server.browser import Chat, find_chromium

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser'")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium (apt install chromium)")

LONG = " ".join(f"word{n}" for n in range(60))


@pytest.fixture(scope="session")
def chromium():
    with sync_api.sync_playwright() as playwright:
        as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        options = ["--no-sandbox"] if as_root else []
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """`visit(server)` opens its page in a browser without a past."""
    visited = []

    def begin(server, *, wait=True, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, **options)
        context.set_default_timeout(20_000)
        chat = Chat(context.new_page(), server.listening.url)
        visited.append((context, chat))
        return chat.open(wait=wait)

    yield begin
    for context, chat in visited:
        context.close()
        assert chat.others() == []
        assert chat.complaints == []


@pytest.fixture
def chat(server, visit):
    return visit(server)


def slow(server, seconds=0.05):
    for speaker in server.speakers:
        speaker.delay_s = seconds


def test_a_question_is_answered_with_figures_and_a_receipt(chat, server):
    server.say("It is **Seoul**.")
    chat.ask("What is the capital?")
    assert chat.texts("user") == ["What is the capital?"]
    assert chat.texts("assistant") == ["It is Seoul."]
    assert chat.page.inner_text(".prose strong") == "Seoul"
    figures = chat.page.inner_text(".message.assistant .figures")
    assert re.search(r"[\d.]+ tokens/s · \d+ tokens · first after [\d.]+ m?s · prompt \d+", figures), figures
    chat.page.click(".message.assistant >> text=Receipt")
    facts = chat.page.inner_text("#dialog .facts")
    assert "Backend\nfake\n" in facts
    assert chat.page.title() == "What is the capital? - edgesdk"


def test_an_answer_streams_and_stops_within_a_step(chat, server):
    server.say(LONG)
    slow(server)
    chat.ask("Go on.", wait=False)
    chat.wait_text("word3")
    assert chat.page.locator(".message.last").get_attribute("aria-busy") == "true"
    assert "tokens/s" in chat.page.inner_text(".message.last .figures")
    chat.page.click("#stop")
    chat.wait()
    server.wait_idle(2.0)
    (text,) = chat.texts("assistant")
    assert LONG.startswith(text.strip())
    assert text != LONG
    assert chat.notes() == ["Stopped."]
    chat.page.focus("#ask")
    chat.ask("Again.", wait=False)
    chat.wait_text("word1")
    chat.page.keyboard.press("Escape")
    chat.wait()
    assert chat.notes() == ["Stopped."]


def test_edited_questions_and_answers_given_anew_are_branches_that_stay(chat, server):
    server.say("First.")
    chat.ask("Please tell me about the first of all the things there are.")
    chat.ask("More.")
    chat.page.hover(".message.user >> nth=0")
    chat.page.click(".message.user >> nth=0 >> [data-do=edit]")
    server.say("Second.")
    chat.page.fill("form.edit textarea", "Please tell me about the first of all the things, shortly.")
    chat.page.press("form.edit textarea", "Enter")
    chat.wait()
    assert chat.texts("assistant") == ["Second."]
    assert chat.page.inner_text(".versions") == "2 / 2"
    server.say("Third.")
    chat.page.click(".message.assistant [data-do=again]")
    chat.wait()
    assert chat.texts("assistant") == ["Third."]
    assert "reused" in chat.page.inner_text(".message.assistant .figures")  # the branches share cells
    chat.page.click(".message.assistant >> [aria-label='Earlier version']")
    assert chat.texts("assistant") == ["Second."]
    chat.page.click(".message.user >> [aria-label='Earlier version']")
    assert chat.texts("assistant") == ["First.", "First."]
    assert chat.texts("user")[1] == "More."
    assert chat.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Later version"
    chat.page.reload()
    chat.page.wait_for_selector(".prose >> nth=1")
    assert chat.texts("assistant") == ["First.", "First."]
    assert [body["messages"][-1]["content"] for body in chat.bodies][1] == "More."
    assert len(chat.bodies[-1]["messages"]) == 1  # of its own branch only


HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script> <b>bold</b> &lt;i&gt;",
    "<style>body { display: none }</style>\n<iframe srcdoc='<script>alert(3)</script>'></iframe>",
    '<a href="https://example.com" onclick="alert(4)">x</a><svg onload=alert(5)>',
    "text\n\n<div\n  onmouseover=alert(6)>x</div>\n\n`<b>`",
)
UNWANTED = (
    "img, script, b, i, style, iframe, object, div div div, [onclick], [onerror], [onmouseover], [style]"
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_html_in_messages_stays_text(chat, server, text):
    server.say(text)
    chat.ask(text)
    (question,), (answer,) = chat.texts("user"), chat.texts("assistant")
    assert question == text
    shown = text.replace("`", "").replace("&lt;i&gt;", "<i>")
    assert answer.split() == shown.split()
    assert chat.page.locator("#thread").locator(UNWANTED).count() == 0
    chat.page.reload()
    chat.page.wait_for_selector(".prose")
    assert chat.texts("user") == [text]
    assert chat.page.locator("#thread, #chats, h1").locator(UNWANTED).count() == 0


def test_links_and_pictures_lead_nowhere_by_themselves(chat, server):
    server.say(
        "[run](javascript:alert(1)) [data](data:text/html,x) ![spy](https://example.com/a.png)\n\n"
        "<https://example.com/> [bad](vbscript:x)\n\n```html\n<script>alert(2)</script>\n```"
    )
    chat.ask("?")
    found = {link.inner_text(): link.get_attribute("href") for link in chat.page.locator(".prose a").all()}
    assert found == {
        "run": None,
        "data": None,
        "spy": "https://example.com/a.png",  # to be followed by who wants to; no picture
        "https://example.com/": "https://example.com/",
        "bad": None,
    }
    for link in chat.page.locator(".prose a[href]").all():
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
        assert link.get_attribute("target") == "_blank"
    assert chat.page.inner_text("figure.code code") == "<script>alert(2)</script>"
    assert chat.page.locator("#thread").locator("img, script").count() == 0


def test_markdown_becomes_elements(chat, server):
    server.say(
        "# Title\n\n1. one\n2. two\n\n| a | b |\n|---|--:|\n| x | 1 |\n\n- [x] done\n\n"
        "```python\ndef f():\n    return 1\n```\n\n> said\n\n~~old~~ `code`"
    )
    chat.ask("?")
    prose = chat.page.locator(".prose")
    for selector in (
        "h2",
        "ol > li >> nth=1",
        "table td[align=right]",
        "input[checked]",
        "blockquote",
        "del",
    ):
        assert prose.locator(selector).count() == 1, selector
    assert prose.locator("figure.code .hljs-keyword >> nth=0").inner_text() == "def"
    assert prose.locator("figcaption span").inner_text() == "python"


def test_a_thought_is_folded(chat, server):
    server.say("<think>\nLet me see: two and two.\n</think>\n\nFour.")
    chat.ask("Two and two?")
    assert chat.texts("assistant") == ["Four."]
    assert not chat.page.locator("details.thought").evaluate("details => details.open")
    assert chat.page.inner_text("details.thought summary").startswith("Thought for ")
    chat.page.click("details.thought summary")
    assert chat.page.inner_text("details.thought > div") == "Let me see: two and two."
    chat.ask("And?")
    assert "think" not in json.dumps(chat.bodies[1]["messages"])


def test_a_schema_is_sent_and_a_wrong_one_is_not(chat, server):
    pytest.importorskip("llguidance")
    chat.page.click("#show-panel")
    chat.page.check("#s-use_schema")
    chat.page.fill("#s-schema", "{")
    assert "This is not JSON" in chat.page.inner_text("#e-schema")
    chat.page.fill("#ask", "A name?")
    chat.page.press("#ask", "Enter")
    assert chat.bodies == []
    assert chat.page.evaluate("document.activeElement.id") == "s-schema"
    assert chat.page.input_value("#ask") == "A name?"
    chat.page.click("#x-schema")
    server.say('{"name": "Ada", "year": 1815}')
    chat.page.fill("#s-max_tokens", "60")
    chat.page.press("#ask", "Enter")
    chat.wait()
    sent = chat.bodies[0]["response_format"]
    assert (sent["type"], sent["json_schema"]["strict"]) == ("json_schema", True)
    assert chat.bodies[0]["max_tokens"] == 60
    assert json.loads(chat.texts("assistant")[0]) == {"name": "Ada", "year": 1815}
    assert chat.page.inner_text("#chips") == "JSON schema"


def test_a_tool_is_called_and_its_result_answered(chat, server):
    server.say('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>')
    chat.page.click("#show-panel")
    chat.page.click("#x-tools")
    chat.page.click("#hide-panel")
    chat.ask("The weather in Oslo?")
    assert chat.page.inner_text(".call .tag") == "get_weather"
    assert json.loads(chat.page.inner_text(".call pre")) == {"city": "Oslo"}
    server.say("It snows.")
    chat.page.fill(".results textarea", '{"snow": true}')
    chat.page.click("text=Send result")
    chat.wait()
    assert chat.texts("assistant") == ["It snows."]
    assert chat.texts("tool") == ['{"snow": true}']
    question, call, result = chat.bodies[1]["messages"]
    assert question["role"] == "user"
    assert result["tool_call_id"] == call["tool_calls"][0]["id"] != ""
    assert chat.page.locator(".results").count() == 0


def test_what_was_under_way_is_kept_as_far_as_it_came(chat, server):
    server.say(LONG)
    slow(server)
    chat.ask("Go on.", wait=False)
    chat.wait_text("word4")
    chat.page.reload()
    chat.page.wait_for_selector(".message.assistant")
    server.wait_idle(3.0)
    assert chat.notes() == ["Stopped."]
    (text,) = chat.texts("assistant")
    assert text.startswith("word0 word1 word2 word3")
    assert LONG.startswith(text.strip())


def test_an_answer_goes_on_while_another_conversation_is_shown(chat, server):
    server.say(LONG[:80])
    slow(server)
    chat.ask("Go on.", wait=False)
    chat.wait_text("word1")
    chat.page.click("#new-chat")
    assert chat.texts("user") == []
    assert not chat.page.locator("#stop").is_visible()
    chat.page.click("#chats .open >> nth=0")
    assert chat.page.locator("#stop").is_visible()
    chat.wait()
    assert chat.texts("assistant") == [LONG[:80].strip()]


def test_all_of_it_by_keyboard(chat, server):
    page = chat.page
    assert page.evaluate("document.activeElement.id") == "ask"
    server.say("One.")
    page.keyboard.type("First line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message.assistant")
    chat.wait()
    assert chat.bodies[0]["messages"][0]["content"] == "First line\nsecond"
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.value") == "First line\nsecond"
    page.keyboard.press("Escape")
    assert page.locator("form.edit").count() == 0
    page.keyboard.press("Control+/")
    assert page.locator("#dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+O")
    assert chat.texts("user") == []
    assert page.evaluate("document.activeElement.id") == "ask"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for control in ("new-chat", "open", "theme", "help", "model", "receipt", "show-panel"):
        assert control in reached, reached


def test_conversations_are_kept_saved_brought_back_and_deleted(chat, server, tmp_path):
    page = chat.page
    server.say("One.")
    chat.ask("First")
    page.click("#new-chat")
    chat.ask("Second")
    titles = page.locator("#chats .open")
    assert titles.all_inner_texts() == ["Second", "First"]
    page.hover("#chats .chat >> nth=1")
    with page.expect_download() as download:
        page.click("[aria-label='Save First as a file']")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    page.hover("#chats .chat >> nth=1")
    page.click("[aria-label='Delete First']")
    page.click("#dialog >> text=Delete >> nth=-1")
    assert titles.all_inner_texts() == ["Second"]
    page.set_input_files("#bring-file", file)
    sync_api.expect(page.locator("h1")).to_have_text("First")
    assert chat.texts("assistant") == ["One."]
    page.set_input_files("#bring-file", {"name": "x.json", "mimeType": "application/json", "buffer": b"[1"})
    assert page.inner_text("#dialog h2") == "This is no conversation"


DAMAGED = [
    "{",
    "null",
    '{"id": "../x", "nodes": {}}',
    '{"id": "a", "nodes": {"x": {"id": "x", "role": "user", "parent": "y"}}, "chosen": {"root": "x"}}',
    '{"id": "b", "nodes": {"x": {"id": "x", "role": "user", "parent": "x"}}, "chosen": {"x": "x"}}',
    '{"id": "c", "title": "<img src=x onerror=alert(1)>", "nodes": {"x": {"id": "x", "role": "assistant", '
    '"parent": "root", "calls": [null, {"name": 3}], "figures": {"prompt_tokens": "<b>"}, "content": "hi"}}, '
    '"chosen": {"root": "x"}, "settings": {"system": 3, "schema": "ok", "other": 1}}',
]


def test_what_others_have_written_into_the_storage_is_read_with_care(chat, server):
    chat.page.evaluate(
        "texts => texts.forEach((text, n) => localStorage.setItem('edgesdk.chat.1.' + 'abcdef'[n], text))",
        DAMAGED,
    )
    chat.page.evaluate("localStorage.setItem('edgesdk.last.1', '[')")
    chat.page.reload()
    chat.page.wait_for_selector("#chats .chat")
    for row in range(chat.page.locator("#chats .open").count()):
        chat.page.click(f"#chats .open >> nth={row}")
    assert chat.page.locator("#chats img").count() == 0
    chat.page.click("#new-chat")
    chat.ask("Still there?")
    assert chat.texts("assistant") == ["The quick brown fox 😀 jumps."]


def test_the_key_is_asked_for_and_goes_with_the_tab(make_server, visit):
    chat = visit(make_server(api_key="correct horse"), wait=False)
    for key in ("wrong battery", "correct horse"):
        chat.page.wait_for_selector("#key-dialog[open]")
        chat.page.fill("#key", key)
        chat.page.press("#key", "Enter")
    chat.wait_ready()
    chat.ask("Who?")
    assert chat.texts("assistant") == ["The quick brown fox 😀 jumps."]
    assert "horse" not in chat.page.evaluate("JSON.stringify(localStorage)")
    chat.page.reload()
    chat.wait_ready()
    assert {line for line in chat.complaints if "401" not in line} == set()  # the browser's own lines
    chat.complaints.clear()


def test_a_server_that_goes_away_is_said(chat, server):
    server.listening.stop()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            server.client.get("/health")
        except OSError:
            break
        time.sleep(0.05)
    chat.ask("Anybody?")
    assert "The server does not answer" in chat.page.inner_text(".failed")
    assert chat.page.locator(".failed button").inner_text() == "Try again"
    chat.complaints.clear()  # the browser's own line about the connection


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(server, visit, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs the extra 'browser'"
    ).Axe()
    chat = visit(server, color_scheme=scheme, reduced_motion="reduce")
    page = chat.page

    def check(where):
        found = axe.run(page).response["violations"]
        assert not found, (where, [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found])

    check("empty")
    server.say(
        "<think>Hm.</think># A\n\n| a | b |\n|---|---|\n| x | 1 |\n\n"
        "```python\n# why\nx = 'a' + 1\n```\n\n- [ ] to do"
    )
    chat.ask("What?")
    page.click("details.thought summary")
    check("answered")
    server.say('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>')
    page.click("#show-panel")
    page.click("#x-tools")
    chat.ask("And now?")
    page.fill("#s-tools", "{")
    check("call and settings")
    page.keyboard.press("Escape")
    page.click("#receipt")
    check("receipt")
    page.keyboard.press("Escape")
    page.click("[data-do=edit] >> nth=0")
    check("edit")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 380, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check("narrow")
