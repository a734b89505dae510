"""The Java modules: built and tested by Maven, on bundles that Python has just made and answered."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

import edgesdk
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.reader import open_bundle

pytest.importorskip("ai_edge_litert")

ROOT = Path(__file__).parents[2]
TOKENS = 16


def expect_part(said, name):
    found = re.search(rf"^no {name}: (.*)", said, re.MULTILINE)
    if found:
        pytest.skip(f"{found.group(1)}: this part of android_demo is not tested")


def ran(said, test):
    """How many tests of a class ran; all of them without a failure, none skipped."""
    found = re.findall(
        rf"Tests run: (\d+), Failures: 0, Errors: 0, Skipped: 0, Time elapsed: .* -- in {test}$",
        said,
        re.MULTILINE,
    )
    assert found, f"{test} did not run whole: {said[-4000:]}"
    return int(found[0])


def test_maven_runs_all_tests(built):
    jvm, _, said = built
    library = ("bundle.BundleImportTest", "bundle.BundleTest", "chat.ChatTest", "steps.StepTest")
    assert sum(ran(said, f"edgemodel.{name}") for name in library) >= 20
    assert ran(said, "edgemodel.bundle.BundleDownloadTest") == 15
    assert ran(said, "edgemodel.decoding.DecodingTest") + ran(said, "edgemodel.text.TextTest") >= 18
    assert ran(said, "edgemodel.onnxruntime.OnnxRuntimeTest") >= 3
    if jvm.find_jdk()[1] >= jvm.FOREIGN_JAVA:
        assert ran(said, "edgemodel.litert.LiteRtTest") >= 3


def test_litert_runs_by_jni(built):
    expect_part(built[2], "JNI")
    assert ran(built[2], "edgemodel.litert.JniLiteRtTest") >= 4


def test_the_screen_works_under_robolectric(built):
    """Chat, import, stop, background, turning, screen readers, memory, and processes that are killed."""
    expect_part(built[2], "app")
    assert ran(built[2], "edgemodel.app.ChatScreenTest") == 7
    assert ran(built[2], "edgemodel.app.ImportScreenTest") == 3
    assert ran(built[2], "edgemodel.app.AddressScreenTest") == 5
    assert ran(built[2], "edgemodel.app.DeathTest") == 3


def test_another_jar_than_that_which_was_tested_is_refused(jvm, tmp_path, monkeypatch):
    monkeypatch.setenv("MAVEN_REPO_LOCAL", str(tmp_path))
    jvm.check_parts()
    name = (jvm.ROOT / "parts.sha256").read_text("utf-8").split()[1]
    path = jvm.library_jar(*name.split(":"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(RuntimeError, match=r"expected [0-9a-f]{64}; delete it"):
        jvm.check_parts()


def test_a_jvm_answers_on_an_apps_copy(built, tmp_path):
    """The way of the benchmarks: a process that is asked line by line."""
    jvm, folder, _ = built
    prepared = tmp_path / "prepared"
    script = jvm.ROOT.parent / "ios_notes" / "prepare_bundle.py"
    command = [sys.executable, script, folder / "qwen3", prepared, "--variant", "onnx-step-f32"]
    subprocess.run(command, check=True, capture_output=True)
    check_integrity(open_bundle(prepared), full=True)
    with jvm.JvmModel("onnxruntime", prepared, threads=1) as model:
        assert "ONNX Runtime" in model.receipt
        first = model.ask(chat="Hello", max_tokens=5)
        assert len(first["tokens"]) == 5
        again = model.ask(ids=first["prompt"], max_tokens=5)
        assert again["tokens"] == first["tokens"]
    with pytest.raises(RuntimeError, match=r"no manifest\.json"):
        jvm.JvmModel("onnxruntime", folder, threads=1)


PIECES = (
    "aA'sSt tTlLLdD 'reveVE",
    "0123456789\u0663\u00bd\u2167\u00b2",
    " \t\n\r\u000b\u0085\u00a0\u2003\u3000\u200b",
    "\u00e9\u00e0\u00f6\u00df\u017f\u017fK\u0301\u0308\u212a",
    "\u4f60\u597d\u65e5\u672c\u8a9e\ud55c\uad6d\uc5b4",
    "\U0001f642\U0001f469\u200d\U0001f469\U0001f1e9\U00040000",
    "!?.,;:-_()[]{}<|>#*/\\\"'",
    "\u041f\u0440\u0438\u05e9\u05dc\u0645\u0631\u0391\u0392",
    "<|im_start|><|endoftext|>",
    "\u0000\u0001\u007f",
)


def test_ids_of_odd_texts_are_those_of_hugging_face(built):
    jvm, folder, _ = built
    random = Random(5)
    with (
        jvm.JvmModel("onnxruntime", folder / "qwen3", threads=1) as model,
        edgesdk.load(folder / "qwen3", variant="litert-f32", strict=True) as python,
    ):
        for _ in range(1500):
            picked = (random.choice(PIECES) for _ in range(random.randint(1, 25)))
            text = "".join(piece if random.random() < 0.2 else random.choice(piece) for piece in picked)
            assert model.ask(text=text)["ids"] == list(python.tokenizer.encode(text)), repr(text)


def test_a_word_of_100_000_letters_is_taken_apart_as_by_hugging_face(built):
    """What is pasted may have no white space at all: in quadratic time a phone would stand still."""
    jvm, folder, _ = built
    random = Random(6)
    words = ["a" * 100_000, "".join(random.choices("etaoinshrdluEA", k=100_000))]
    with (
        jvm.JvmModel("onnxruntime", folder / "qwen3", threads=1) as model,
        edgesdk.load(folder / "qwen3", variant="litert-f32", strict=True) as python,
    ):
        for word in words:
            assert model.ask(text=word)["ids"] == list(python.tokenizer.encode(word))


def phone_notes():
    """The module of examples/phone_notes.py, its plan, and notes."""
    spec = importlib.util.spec_from_file_location("phone_notes", ROOT / "examples/phone_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, json.loads(module.PLAN.read_text("utf-8"))


NOTES = (
    "Call with Maria on Monday. We meet on Friday at ten in the library. Maria brings the maps. I have to "
    "print the tickets before, and to ask Tom for the key.",
    'Ärger mit "dem" Schlüssel {who} \\n 🙂\tmorgen\u00a0früh',
)


SMALL = {
    "schema_version": 1,
    "system": "s",
    "extract": {"instruction": "i", "fields": [{"name": n, "max_tokens": 5} for n in ("who", "when")]},
    "ask": {"questions": [{"name": n, "question": n, "max_tokens": 6} for n in ("minutes", "tags")]},
    "rewrite": {"instruction": "r {who} {minutes} {none}", "max_tokens": 8},
}
"""A plan for models whose context holds 256 tokens."""


def same_pipeline(jvm, python, bundle, runtime, plan, texts):
    module, _ = phone_notes()
    with jvm.JvmModel(runtime, bundle, threads=2) as model, edgesdk.Engine(python) as engine:
        for text in texts:
            expected = module.Notes(engine, plan, text).run()
            assert model.ask(notes=text, plan=plan) == expected
    return expected


def test_the_pipeline_of_a_phone_gives_pythons_texts(built):
    jvm, folder, _ = built
    with edgesdk.load(folder / "qwen3", variant="onnx-step-f32", strict=True) as python:
        found = same_pipeline(jvm, python, folder / "qwen3", "onnxruntime", SMALL, ("a b", NOTES[1][:40]))
    assert list(found) == ["who", "when", "minutes", "tags", "reply"]


@pytest.mark.real
def test_the_pipeline_of_a_phone_gives_pythons_texts_on_the_real_model(
    built, smollm2_float, script, tmp_path_factory
):
    jvm = built[0]
    if jvm.find_jdk()[1] < jvm.FOREIGN_JAVA:
        pytest.skip(f"LiteRT on the JVM needs a JDK of version {jvm.FOREIGN_JAVA} or later")
    prepared = tmp_path_factory.mktemp("notes") / "prepared"
    script("prepare_bundle").prepare_bundle(open_bundle(smollm2_float), prepared, "litert-f32")
    with edgesdk.load(prepared, strict=True, threads=2) as python:
        found = same_pipeline(jvm, python, prepared, "litert", phone_notes()[1], NOTES)
    assert list(found) == ["who", "when", "where", "minutes", "tasks", "tags", "reply"]
    assert all(found.values())


@pytest.fixture(scope="module")
def answers(smollm2_float):
    """Ten prompts of SmolLM2 in float32, with what Python says to them."""
    questions = (ROOT / "benchmarks" / "prompts.txt").read_text(encoding="utf-8").splitlines()[:10]
    with edgesdk.load(smollm2_float, variant="litert-f32", strict=True, threads=2) as model:
        prompts = [model.render_prompt(question) for question in questions]
        return [
            (prompt, list(model.generate(prompt, max_tokens=TOKENS, temperature=0.0).tokens))
            for prompt in prompts
        ]


@pytest.mark.real
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "litert-jni"])
def test_the_real_model_gives_pythons_tokens(built, runtime, answers, smollm2_float):
    """benchmarks/jvm_speed.py asks all fifty, for 48 tokens."""
    jvm = built[0]
    if runtime == "litert" and jvm.find_jdk()[1] < jvm.FOREIGN_JAVA:
        pytest.skip(f"LiteRT on the JVM needs a JDK of version {jvm.FOREIGN_JAVA} or later")
    if runtime == "litert-jni":
        expect_part(built[2], "JNI")
    garbage = []
    with jvm.JvmModel(runtime, smollm2_float, threads=2) as model:
        for number, (prompt, tokens) in enumerate(answers):
            found = model.ask(ids=prompt, max_tokens=TOKENS, drafts=number % 2 == 1)
            assert found["tokens"] == tokens, f"prompt {number}"
            if number % 2 == 0:
                garbage.append(found["garbage_bytes_a_piece"])
    if runtime != "onnxruntime":  # whose own Java layer makes several kilobytes a step
        # The least: code that is not compiled yet makes more, and so do trees of drafts.
        assert min(garbage) <= 1024
