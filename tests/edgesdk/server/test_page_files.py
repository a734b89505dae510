"""Files of the page: nothing from elsewhere, and those of others as they were published."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "edgesdk" / "server" / "page"
OWN = sorted(path for path in PAGE.iterdir() if path.is_file())


def test_vendored_files_are_as_they_were_published():
    notice = (ROOT / "NOTICE").read_text()
    vendor = PAGE / "vendor"
    for file in vendor.glob("*.js"):
        assert f"- {file.name}: " in notice
        assert hashlib.sha256(file.read_bytes()).hexdigest() in notice, file
        assert (vendor / f"LICENSE-{file.stem}.txt").is_file()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_own_files_name_no_other_host_and_make_no_html_of_texts(path):
    text = path.read_text(encoding="utf-8")
    others = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+", text)) - {"http://www.w3.org", "//www.w3.org"}
    assert not others
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
    )
    assert not re.search(r"<[^>]* (?:style|on\w+)=", text), "the page's policy refuses it"


def test_what_is_served_has_the_page_and_its_policy(server):
    status, text, headers = server.client.get("/")
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for address in re.findall(r'(?:href|src)="(/page/[^"]+)"', text):
        status, found, headers = server.client.get(address)
        assert (status, bool(found)) == (200, True), address
        assert headers["content-security-policy"] == policy
        kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[Path(address).suffix]
        assert headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    "path", ["/page/../server_options.py", "/page/%2e%2e/guard.py", "/page/..%2fguard.py", "/page/"]
)
def test_nothing_else_is_served(server, path):
    assert server.client.get(path)[0] == 404
