"""Writes docs/web-chat.png: a conversation with the demo's model, as Chromium shows it.

    edgesdk serve smollm2 &
    python docs/make_web_chat_shot.py http://127.0.0.1:8080

Needs the extra `browser`, Chromium and Pillow.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

TARGET = Path(__file__).parent / "web-chat.png"
CONVERSATIONS = (
    ("List three tips for better sleep as a markdown list with bold keywords.",),
    ("What is the plural of child?",),
    (
        "What is the capital of South Korea?",
        "Write a short Python function that checks whether a word is a palindrome.",
    ),
)
_FONT = (
    ":root { --text: Inter, system-ui, sans-serif; --mono: 'Noto Sans Mono', 'DejaVu Sans Mono', monospace; }"
)
_COLOURS = 256
_WAIT_MS = 300_000


def make_shot(url: str, scheme: str = "light") -> bytes:
    """A picture of the page after these conversations, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size = {"width": 1240, "height": 800}
        page = browser.new_page(viewport=size, device_scale_factor=2, color_scheme=scheme, bypass_csp=True)
        page.goto(url)
        page.add_style_tag(content=_FONT)  # instead of what a bare machine has for `system-ui`
        page.wait_for_selector("#model option[value]", state="attached")
        for questions in CONVERSATIONS:
            page.click("#new-chat")
            for question in questions:
                _ask(page, question)
        page.mouse.move(1, 1)
        page.evaluate("document.getElementById('scroll').scrollTop = 0")
        picture: bytes = page.screenshot()
        browser.close()
        return picture


def _ask(page: Page, question: str) -> None:
    page.fill("#ask", question)
    page.press("#ask", "Enter")
    page.wait_for_selector(".message.assistant.last[aria-busy=false]", timeout=_WAIT_MS)
    page.wait_for_selector("#send:not([hidden])", timeout=_WAIT_MS)


if __name__ == "__main__":
    shot = Image.open(io.BytesIO(make_shot(*sys.argv[1:])))
    shot.convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE).save(TARGET, optimize=True)
