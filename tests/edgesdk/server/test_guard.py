"""Who is not let in, and what is not read: refused with one line in the log, and the server lives on."""

import contextlib
import json
import logging
import socket
import time
from urllib.parse import urlsplit

import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.server.server_options import ServerOptions

PATH = "/v1/chat/completions"
DOCUMENT = {"model": "tiny", "messages": [{"role": "user", "content": "The fox?"}], "max_tokens": 2}
KEY = "a-key-of-some-length"


def alive(server, headers=()):
    assert server.client.post(PATH, DOCUMENT, headers)[0] == 200
    server.wait_idle()


def test_without_a_key_and_with_a_wrong_one(make_server, caplog):
    server = make_server(api_key=KEY)
    for wrong in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"x-api-key": "ü"},
    ):
        caplog.clear()
        headers = {name: value.encode() for name, value in wrong.items()}
        status, answer, _ = server.client.post(PATH, DOCUMENT, headers)
        assert (status, answer["error"]["code"]) == (401, "key")
        (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert "401" in record.getMessage()
        assert KEY not in record.getMessage()
    for right in ({"Authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
        alive(server, right)
    assert server.client.get("/health")[0] == 200
    assert server.client.get("/metrics")[0] == 401
    assert server.client.get("/v1/models")[0] == 401
    assert server.client.get("/")[0] == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "host"),
        ({"Host": "127.0.0.1.evil.example:80"}, "host"),
        ({"Host": ""}, "host"),
        ({"Origin": "http://evil.example"}, "origin"),
        ({"Origin": "null"}, "origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin"),
    ],
)
def test_other_hosts_and_origins(server, caplog, headers, code):
    for path in (PATH, "/v1/models", "/health"):
        method = "POST" if path == PATH else "GET"
        document = DOCUMENT if path == PATH else None
        status, answer, answered = server.client.ask(method, path, document, headers)
        assert (status, answer["error"]["code"]) == (403, code)
        assert "access-control-allow-origin" not in answered
    assert len([r for r in caplog.records if "403" in r.getMessage()]) == 3
    alive(server)


def test_pages_that_are_let_in(make_server):
    server = make_server(allowed_origins=("http://app.example",), allowed_hosts=("box.example",), api_key=KEY)
    asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization"
    status, _, headers = server.client.ask("OPTIONS", PATH, headers=asked)
    assert (status, headers["access-control-allow-origin"]) == (200, "http://app.example")
    right = {"Origin": "http://app.example", "Authorization": f"Bearer {KEY}", "Host": "box.example:99"}
    assert server.client.post(PATH, DOCUMENT, right)[2]["access-control-allow-origin"] == "http://app.example"
    own = {"Origin": server.client.url, "Authorization": f"Bearer {KEY}"}
    alive(server, own)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b"\xff\xfe", 400),
        (b'{"model": NaN}', 400),
        (b'{"model": "\\ud800"}', 400),
        (b'{"a":' * 5000, 400),
        (b"[" * 200_000, 400),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", 400),
        (b'{"a": [' + b"1," * 300_000 + b"1]}", 400),
        (b'{"a": ' + b"9" * 10_000 + b"}", 400),
        (b" " * 3_000_000, 413),
    ],
)
def test_documents_beyond_the_bounds(make_server, body, status):
    server = make_server(max_body_bytes=1 << 21)
    found, answer, _ = server.client.ask("POST", PATH, body=body)
    assert found == status
    assert "\n" not in answer["error"]["message"]
    assert server.client.ask("POST", PATH, body=body, headers={"Content-Type": "text/html"})[0] in (415, 413)
    alive(server)


def raw(server, data, wait_s=5.0):
    """What a server answers to bytes; empty if it closes the connection."""
    host, port = urlsplit(server.client.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=wait_s) as connection:
        connection.sendall(data)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                found += piece
        return found


def test_slow_heads_and_bodies_end(make_server, caplog):
    server = make_server(head_timeout_s=0.3, body_timeout_s=0.3)
    began = time.monotonic()
    assert raw(server, b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-A: ") == b""
    assert raw(server, b"") == b""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert b" 408 " in raw(server, head + b"Content-Length: 100\r\n\r\n{").split(b"\r\n")[0]
    assert time.monotonic() - began < 10
    # A second head on a connection that was used already.
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(server, whole + b"GET /health HTTP/1.1\r\nHos").count(b"200 OK") == 1
    assert sum("no request within" in r.getMessage() for r in caplog.records) == 3
    endless = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 200_000
    assert b"200 OK" not in raw(server, endless)
    alive(server)


def test_a_page_without_a_host_header(make_server, caplog):
    server = make_server(allowed_hosts=("*",))
    answer = raw(server, b"GET /health HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n")
    assert b" 403 " in answer.split(b"\r\n")[0]
    assert b" 200 " in raw(server, b"GET /health HTTP/1.0\r\n\r\n").split(b"\r\n")[0]
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    alive(server)


def test_paths_stay_within_the_page(server):
    for path in ("/page/../guard.py", "/page/%2e%2e/guard.py", "/page/..%2fguard.py", "/page//etc/passwd"):
        assert server.client.get(path)[0] in (404, 405), path
    status, _, headers = server.client.get("/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert server.client.get("/nowhere")[0] == 404
    assert server.client.get(PATH)[0] == 405
    alive(server)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"host": "0.0.0.0"}, "there is no key"),
        ({"host": "192.168.1.7"}, "there is no key"),
        ({"api_key": "short"}, "api_key has 5 characters"),
        ({"port": 99999}, "port is 99999"),
        ({"allowed_hosts": ("http://x",)}, "allowed_hosts has"),
        ({"allowed_origins": ("*",)}, "allowed_origins has"),
        ({"memory_limit_mb": 0}, "memory_limit_mb is 0"),
        ({"idle_unload_s": -1}, "idle_unload_s is -1"),
        ({"body_timeout_s": 0}, "body_timeout_s is 0"),
    ],
)
def test_options_without_meaning(options, match):
    with pytest.raises(UnsupportedOption, match=match):
        ServerOptions(**options)


def test_figures_are_there_for_prometheus(server):
    alive(server)
    status, text, headers = server.client.get("/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['edgesdk_time_to_first_token_seconds_count{model="tiny"}']) == 1
    assert float(values['edgesdk_time_between_tokens_seconds_count{model="tiny"}']) == 1
    assert float(values['edgesdk_chosen_tokens_total{model="tiny"}']) == 2
    assert float(values['edgesdk_running{model="tiny"}']) == 0
    assert float(values['edgesdk_drafted_tokens_total{model="tiny"}']) == 0
    assert json.loads(json.dumps(values))
