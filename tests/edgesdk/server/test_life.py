"""Clients that go, queues that are full, models that come and go: nothing stays behind."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

PATH = "/v1/chat/completions"


def ask(model="tiny", **options):
    return {"model": model, "messages": [{"role": "user", "content": "The fox?"}], **options}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_request(make_server, stream):
    server = make_server("The fox " * 200)
    (speaker,) = server.speakers
    speaker.delay_s = 0.02
    connection, _ = server.client.request("POST", PATH, ask(stream=True)) if stream else (_sent(server), None)
    while not server.engine.metrics.running:
        time.sleep(0.005)
    steps = server.engine.metrics.steps
    connection.close()
    server.wait_idle()
    assert server.engine.metrics.steps - steps < 100  # of the 400 that it would have taken
    assert server.client.get("/health")[0] == 200


def test_a_client_that_goes_during_its_prompt_ends_it_within_a_step(make_server):
    server = make_server()
    (speaker,) = server.speakers
    speaker.delay_s = 0.2
    document = ask(stream=True)
    document["messages"][0]["content"] = "fox " * 300
    connection, _ = server.client.request("POST", PATH, document)
    while not server.engine.metrics.steps:
        time.sleep(0.005)
    connection.close()
    server.wait_idle()
    assert server.engine.metrics.chosen_tokens == 0
    assert server.engine.metrics.steps <= 3


def _sent(server):
    connection = http.client.HTTPConnection(server.client.netloc, timeout=30)
    connection.request("POST", PATH, json.dumps(ask()), {"Content-Type": "application/json"})
    return connection


def test_a_full_queue_says_when_to_come_again(make_server):
    server = make_server("The fox " * 50, engine={"max_queue": 1, "max_running": 1})
    (speaker,) = server.speakers
    speaker.delay_s = 0.05
    first = server.client.request("POST", PATH, ask(stream=True))[0]
    while not server.engine.metrics.running:
        time.sleep(0.005)
    second = server.client.request("POST", PATH, ask(stream=True))[0]
    status, answer, headers = server.client.post(PATH, ask())
    assert (status, answer["error"]["code"]) == (429, "queue_full")
    assert int(headers["retry-after"]) >= 1
    for connection in (first, second):
        connection.close()
    server.wait_idle()
    speaker.delay_s = 0
    assert server.client.post(PATH, ask(max_tokens=2))[0] == 200


def test_models_give_way_to_one_another(make_server, speaking_bundle):
    size = sum(r.size_bytes for r in speaking_bundle.manifest.files.values()) / (1 << 20)
    server = make_server(names=("one", "two", "three"), memory_mb=2.5 * size)
    assert {each.name for each in server.host.loaded} == {"one"}
    for name in ("two", "one", "three", "one"):
        assert server.client.post(PATH, ask(name, max_tokens=2))[0] == 200
    assert {each.name for each in server.host.loaded} == {"one", "three"}
    listed = {each["id"]: each["loaded"] for each in server.client.get("/v1/models")[1]["data"]}
    assert listed == {"one": True, "two": False, "three": True}
    # While both answer there is no room for the third.
    for speaker in server.speakers:
        speaker.say("The fox " * 100)
        speaker.delay_s = 0.02
    busy = [server.client.request("POST", PATH, ask(name, stream=True))[0] for name in ("one", "three")]
    while sum(each.uses for each in server.host.loaded) < 2:
        time.sleep(0.005)
    status, answer, headers = server.client.post(PATH, ask("two"))
    assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "no_memory", "1")
    for connection in busy:
        connection.close()
    server.wait_idle()


def test_a_model_is_loaded_once_for_all_who_ask(make_server):
    server = make_server(names=("one", "two"))
    statuses = []

    def work():
        statuses.append(server.client.post(PATH, ask("two", max_tokens=4))[0])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert len(server.speakers) == 2
    server.wait_idle()


def test_an_idle_model_is_unloaded_and_comes_back(make_server):
    server = make_server(idle_unload_s=0.2)
    end = time.monotonic() + 10
    while server.host.loaded:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert server.client.post(PATH, ask(max_tokens=2))[0] == 200


def test_a_model_that_cannot_be_loaded_is_one_line(make_server, monkeypatch):
    from edgesdk.errors import BundleError

    server = make_server(names=("one", "two"))

    def fail(path, loading, own):
        raise BundleError("it is damaged; convert it again")

    monkeypatch.setattr(server.host, "_open_engine", fail)
    status, answer, _ = server.client.post(PATH, ask("two"))
    assert (status, answer["error"]["message"]) == (
        503,
        "the model two cannot be loaded: it is damaged; convert it again",
    )
    assert server.client.post(PATH, ask("one", max_tokens=2))[0] == 200


def test_a_server_that_ends_ends_its_answers(make_server, monkeypatch):
    from edgesdk.server import serve

    monkeypatch.setattr(serve, "_GRACE_S", 1)
    server = make_server("The fox " * 100)
    server.speakers[0].delay_s = 0.05
    connection, answer = server.client.request("POST", PATH, ask(stream=True))
    with contextlib.closing(connection):
        answer.read(10)
        server.listening.stop()
        with contextlib.suppress(Exception):
            answer.read()


@pytest.mark.parametrize("stream", [True, False])
def test_the_end_of_a_server_cuts_off_long_answers_without_a_traceback(
    make_server, caplog, monkeypatch, stream
):
    monkeypatch.setattr("edgesdk.server.serve._GRACE_S", 1)
    server = make_server("The dog. " * 100)
    server.speakers[0].delay_s = 0.05
    asking = threading.Thread(target=lambda: _ask_and_drop(server, ask(stream=stream)), daemon=True)
    asking.start()
    while not server.engine.metrics.steps:
        time.sleep(0.01)
    server.listening.stop()
    asking.join(20)
    assert not asking.is_alive()
    end = time.monotonic() + 10
    while server.host.loaded:
        assert time.monotonic() < end
        time.sleep(0.01)
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "the server ends" in line or "ASGI" in line] == [
        f"cut off POST {PATH}: the server ends"
    ]
    assert not [record for record in caplog.records if record.exc_info]


def _ask_and_drop(server, asked):
    connection, answer = server.client.request("POST", PATH, asked)
    with contextlib.closing(connection), contextlib.suppress(http.client.IncompleteRead):
        answer.read()


def test_a_taken_port_shows_before_a_model_is_loaded(speaking_bundle):
    from edgesdk.errors import DeviceError
    from edgesdk.load_options import LoadOptions
    from edgesdk.server.model_host import ModelHost
    from edgesdk.server.serve import serve
    from edgesdk.server.server_options import ServerOptions

    host = ModelHost({"tiny": speaking_bundle.path}, LoadOptions(), {}, memory_bytes=1 << 30)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(host, ServerOptions(port=port), preload=("tiny",))
    assert not host.loaded


@contextlib.contextmanager
def _command(shelf):
    """`edgesdk serve` as a process, without a model; gives (process, address)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgesdk", "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EDGESDK_MODELS": str(shelf)},
    )
    try:
        line = process.stderr.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        assert found, line + process.stderr.read()
        yield process, (found[1], int(found[2]))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_told_to_end_has_not_failed(tmp_path, number):
    with _command(tmp_path) as (process, _):
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_second_interruption_ends_it_at_once(tmp_path):
    with _command(tmp_path) as (process, address), socket.create_connection(address) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100)  # it is asked for the body, which does not come
        process.send_signal(signal.SIGINT)
        assert "Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "pydantic", "prometheus_client"])
def test_without_its_extra_the_command_names_it(tmp_path, package):
    code = f"import sys; sys.modules[{package!r}] = None; from edgesdk.cli.main import main; main(['serve'])"
    environment = {**os.environ, "EDGESDK_MODELS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    expected = (
        f"error: the package '{package}' is not installed; install it with: pip install 'edgesdk[serve]'\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
