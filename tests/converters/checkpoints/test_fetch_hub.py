"""The hub: its cache without a network, and a small server that behaves like it."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import fetch_hub as module
from edgesdk_converters.checkpoints.fetch_hub import fetch_hub, is_hub_id
from edgesdk_converters.checkpoints.open_gguf import open_gguf
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEEDED = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
}


@pytest.fixture
def offline(monkeypatch):
    """Network calls of huggingface_hub fail at once."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def cache(tmp_path, tiny_folder):
    """A checkpoint in the layout of the hub's cache."""
    root = tmp_path / "hub" / "models--someone--tiny"
    snapshot = root / "snapshots" / COMMIT
    for folder in (snapshot, root / "blobs", root / "refs"):
        folder.mkdir(parents=True)
    for file in (tiny_folder / "llama").iterdir():
        blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    (root / "refs" / "main").write_text(COMMIT)
    (root / "refs" / "v1").write_text(COMMIT)
    return tmp_path / "hub"


def test_a_damaged_file_of_the_cache_is_not_believed(cache, offline):
    blobs = sorted((cache / "models--someone--tiny" / "blobs").iterdir())
    fetch_hub("someone/tiny", None, cache)
    weights = (cache / "models--someone--tiny" / "snapshots" / COMMIT / "model.safetensors").resolve()
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    folder, _ = fetch_hub("someone/tiny", None, cache)  # there is no network to fetch it again
    assert weights in blobs
    assert not weights.exists()
    with pytest.raises(CheckpointError, match=r"has neither model\.safetensors nor"):
        open_huggingface(folder)


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_a_cached_checkpoint_needs_no_network(cache, offline, revision):
    folder, commit = fetch_hub("someone/tiny", revision, cache)
    assert commit == COMMIT
    checkpoint = open_huggingface(folder, location="someone/tiny", revision=commit)
    assert (checkpoint.source.location, checkpoint.source.revision) == ("someone/tiny", COMMIT)
    assert checkpoint.name == "tiny"
    assert [file.name for file in checkpoint.source.files] == ["model.safetensors"]


@pytest.mark.parametrize(("hub_id", "revision"), [("someone/other", None), ("someone/tiny", "v9")])
def test_what_is_not_cached_is_one_line(cache, offline, hub_id, revision):
    with pytest.raises(CheckpointError, match=f"{hub_id}.* is not in the cache") as caught:
        fetch_hub(hub_id, revision, cache)
    assert "\n" not in str(caught.value)
    assert f"no directory '{hub_id}'" in str(caught.value)


def test_hub_ids():
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert is_hub_id("a/b.c_d-e")
    assert not any(map(is_hub_id, ["plain", "a/b/c", "../x", "/a", "a/", "a b/c", "a/b\n", "a/" + "b" * 97]))


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download takes, for one repository."""

    files: dict[str, bytes]
    log: list[str]
    breaks: set[str]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        asked = self.headers.get("Range", "")
        self.log.append(f"{self.command} {self.path} {asked}".strip())
        path = self.path.partition("?")[0]
        tree = f"/api/models/someone/tiny/tree/{COMMIT}"
        if found := re.fullmatch(r"/api/models/someone/tiny/revision/(.*)", path):
            known = found[1] in ("main", "v1", COMMIT)
            siblings = [{"rfilename": name} for name in self.files]
            document = {"id": "someone/tiny", "sha": COMMIT, "siblings": siblings, "private": False}
            self.send(json.dumps(document).encode(), body) if known else self.fail("RevisionNotFound")
        elif path == tree:
            entries = [
                {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                for n, d in self.files.items()
            ]
            self.send(json.dumps(entries).encode(), body)
        elif (name := re.sub(f"^/someone/tiny/resolve/(main|v1|{COMMIT})/", "", path)) in self.files:
            self.send_file(name, body, asked)
        else:
            self.fail("RepoNotFound")

    def send_file(self, name, body, asked):
        data = self.files[name]
        start = int(found[1]) if (found := re.fullmatch(r"bytes=(\d+)-.*", asked)) else 0
        etag = hashlib.sha256(data).hexdigest()
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not body:
            return
        if name in self.breaks:  # the connection is lost halfway, once
            self.breaks.remove(name)
            self.wfile.write(data[start : len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    def send(self, data, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def fail(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tiny_folder):
    """The server, with files that conversion does not want too."""
    files = {file.name: file.read_bytes() for file in (tiny_folder / "llama").iterdir()}
    files = {name: data for name, data in files.items() if name in NEEDED}
    for name in (
        "pytorch_model.bin",
        "consolidated.safetensors",
        "onnx/config.json",
        "original/a.safetensors",
    ):
        files[name] = b"unwanted"
    handler = type("Handler", (Hub,), {"files": files, "log": [], "breaks": set()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}"
        yield handler
        server.shutdown()


def fetch_from(url, home, hub_id="someone/tiny", revision=None, quantisation=None):
    """In a process of its own, since huggingface_hub reads its settings once."""
    given = [hub_id, *filter(None, [quantisation])]
    function = "fetch_hub" if quantisation is None else "fetch_hub_gguf"
    code = (
        "from pathlib import Path\n"
        "from huggingface_hub import constants\n"
        "constants.DOWNLOAD_CHUNK_SIZE = 1024\n"  # whole pieces survive a lost connection
        f"from edgesdk_converters.checkpoints.{function} import {function}\n"
        f"try: print(*{function}(*{given!r}, {revision!r}, Path({str(home)!r})))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(module.__file__).parents[2],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_a_download_takes_what_is_needed_and_then_the_cache_suffices(hub, tmp_path):
    folder, commit = fetch_from(hub.url, tmp_path, revision="v1").split()
    assert commit == COMMIT
    assert {path.name for path in Path(folder).iterdir()} == NEEDED
    assert open_huggingface(Path(folder)).config["model_type"] == "llama"
    nobody = "http://127.0.0.1:9"
    assert fetch_from(nobody, tmp_path, revision="v1").split() == [folder, commit]
    assert fetch_from(nobody, tmp_path, revision=COMMIT).split() == [folder, commit]


def test_what_the_disk_has_damaged_is_fetched_again(hub, tmp_path):
    folder, _ = fetch_from(hub.url, tmp_path, revision="v1").split()
    weights = Path(folder, "model.safetensors")
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert fetch_from(hub.url, tmp_path, revision="v1").split()[0] == folder
    assert weights.read_bytes() == whole


def test_a_lost_connection_is_resumed(hub, tmp_path):
    hub.breaks.add("model.safetensors")
    folder, _ = fetch_from(hub.url, tmp_path).split()
    assert (Path(folder) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    resumed = [line for line in hub.log if "model.safetensors bytes=" in line and "bytes=0-" not in line]
    assert resumed, "\n".join(hub.log)


@pytest.mark.parametrize(
    ("hub_id", "revision", "said"),
    [
        ("someone/other", None, "the hub has no repository of that name"),
        ("someone/tiny", "v9", "the hub has no revision 'v9' of someone/tiny"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub, tmp_path, hub_id, revision, said):
    answer = fetch_from(hub.url, tmp_path, hub_id, revision)
    assert answer.startswith("CheckpointError")
    assert said in answer
    assert "\n" not in answer


def test_one_gguf_file_is_fetched_resumed_checked_and_cached(hub, tmp_path, gguf_from_tiny):
    data = gguf_from_tiny(tmp_path / "made.gguf", "llama").read_bytes()
    hub.files.update({"Tiny-F32.gguf": data, "Tiny-Q8_0.gguf": b"unwanted"})
    hub.breaks.add("Tiny-F32.gguf")
    answer = fetch_from(hub.url, tmp_path / "hub", revision="v1", quantisation="f32")
    assert "Error" not in answer, (answer, hub.log)
    file, commit = answer.split()
    assert commit == COMMIT
    assert Path(file).read_bytes() == data
    assert any("Tiny-F32.gguf bytes=" in line and "bytes=0-" not in line for line in hub.log), hub.log
    assert not any("Q8_0" in line for line in hub.log)
    opened = open_gguf(Path(file), location="someone/tiny:F32", revision=commit)
    assert (opened.source.location, opened.source.revision) == ("someone/tiny:F32", COMMIT)
    nobody = "http://127.0.0.1:9"
    offline = fetch_from(nobody, tmp_path / "hub", revision="v1", quantisation="F32")
    assert offline.split() == [file, commit]
    lacking = fetch_from(nobody, tmp_path / "hub", revision="v1", quantisation="Q8_0")
    assert lacking.endswith("the cached someone/tiny has no GGUF file of Q8_0; it has: F32")
    Path(file).resolve().write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fetch_from(hub.url, tmp_path / "hub", quantisation="F32").split()[0] == file
    assert Path(file).read_bytes() == data


def test_a_gguf_file_in_parts_is_fetched_whole(hub, tmp_path, gguf_from_tiny):
    first = gguf_from_tiny(tmp_path / "Tiny-F32.gguf", "llama", tensors_per_part=9)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert len(parts) == 3
    hub.files.update({f"F32/{part.name}": part.read_bytes() for part in parts})
    hub.breaks.add(f"F32/{parts[1].name}")
    file, commit = fetch_from(hub.url, tmp_path / "hub", revision="v1", quantisation="f32").split()
    assert (Path(file).name, commit) == (first.name, COMMIT)
    asked = [line for line in hub.log if parts[1].name in line]
    assert all(f"/resolve/{COMMIT}/" in line for line in asked), asked
    assert any("bytes=" in line and "bytes=0-" not in line for line in asked), asked
    opened = open_gguf(Path(file), location="someone/tiny:F32", revision=commit)
    assert [each.name for each in opened.source.files] == [part.name for part in parts]
    nobody = "http://127.0.0.1:9"
    assert fetch_from(nobody, tmp_path / "hub", revision="v1", quantisation="F32").split() == [file, commit]
    last = Path(file).with_name(parts[2].name)
    whole = last.read_bytes()
    last.resolve().write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fetch_from(hub.url, tmp_path / "hub", revision="v1", quantisation="F32")
    assert last.read_bytes() == whole
    last.unlink()
    offline = fetch_from(nobody, tmp_path / "hub", revision="v1", quantisation="F32")
    assert f"one of 3 parts, and not F32/{last.name}" in offline


@pytest.mark.parametrize(
    ("hub_id", "said"),
    [
        ("someone/other", "the hub has no repository of that name"),
        ("someone/tiny", "someone/tiny has no GGUF file of Q8_0; it has: no GGUF file"),
    ],
)
def test_a_gguf_file_that_the_hub_does_not_have_is_named(hub, tmp_path, hub_id, said):
    answer = fetch_from(hub.url, tmp_path, hub_id, quantisation="Q8_0")
    assert answer.startswith("CheckpointError")
    assert said in answer


def test_of_folders_only_templates_are_fetched():
    from huggingface_hub.utils import filter_repo_objects

    wanted = ["config.json", "model-00001-of-00002.safetensors", "additional_chat_templates/tool_use.jinja"]
    wanted += ["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"]
    others = [
        "onnx/config.json",
        "original/model.safetensors",
        "1.5B/model.safetensors",
        "consolidated.safetensors",
        "a/tool_use.jinja",
    ]
    found = filter_repo_objects(
        [*wanted, *others], allow_patterns=module._WANTED, ignore_patterns=module._UNWANTED
    )
    assert list(found) == wanted
