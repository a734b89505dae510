"""The web chat as a user drives it: a page in a real Chromium, and what it must never do."""

from __future__ import annotations

import os
import shutil
from urllib.parse import urlsplit

CHROMIUM_VARIABLE = "EDGESDK_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium():
    """Where Chromium is; None without one."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


class Chat:
    """The page, with everything it asked for and complained of."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.complaints, self.asked, self.bodies = [], [], []
        page.on(
            "console", lambda line: self.complain(line.text) if line.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complain(str(error)))
        page.on("dialog", lambda dialog: (self.complain(dialog.message), dialog.dismiss()))
        page.on("request", self._see)

    def complain(self, text):
        self.complaints.append(text)

    def _see(self, request):
        self.asked.append(request.url)
        if request.url.endswith("/v1/chat/completions"):
            self.bodies.append(request.post_data_json)

    def open(self, *, wait=True):
        self.page.goto(self.url)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        """Waits until the page knows its models; not by a script, for its policy lets none be evaluated."""
        from playwright.sync_api import expect

        expect(self.page.locator("#model")).not_to_have_value("")

    def wait_text(self, text):
        """Waits until an answer has come so far."""
        from playwright.sync_api import expect

        expect(self.page.locator(".message.assistant.last .prose")).to_contain_text(text)

    def ask(self, text, *, wait=True):
        """Types a question and sends it; waits for the end of the answer."""
        self.page.fill("#ask", text)
        self.page.press("#ask", "Enter")
        self.page.wait_for_selector(".message.assistant.last")
        if wait:
            self.wait()

    def wait(self):
        self.page.wait_for_selector("#send:not([hidden])", state="attached")
        self.page.wait_for_selector(".message.last[aria-busy=false]")

    def texts(self, role):
        inside = {"user": ".bubble", "assistant": ".prose", "tool": ".result pre"}[role]
        return self.page.locator(f".message.{role} {inside}").all_inner_texts()

    def notes(self):
        return self.page.locator(".message.assistant.last .note").all_inner_texts()

    def others(self):
        """Addresses of other hosts that were asked for."""
        mine = urlsplit(self.url).netloc
        return [
            url
            for url in self.asked
            if urlsplit(url).netloc != mine and not url.startswith(("blob:", "data:"))
        ]
