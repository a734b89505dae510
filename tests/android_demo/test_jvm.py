"""The Java modules: built and tested by Maven, on bundles that Python has just made and answered."""

import re

import pytest

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="session")
def built(jvm, maven, script, tmp_path_factory):
    """What Maven said when it tested all modules on two tiny bundles."""
    from edgesdk.backends.litert.host_memory import library_path

    folder = tmp_path_factory.mktemp("bundles")
    script("make_test_bundles").make_all(folder)
    said = maven("test", bundles=str(folder), **{"litert.library": str(library_path())})
    return jvm, folder, said


def test_maven_runs_all_tests(built):
    jvm, _, said = built
    ran = re.findall(r"Tests run: (\d+), Failures: 0, Errors: 0, Skipped: 0$", said, re.MULTILINE)
    foreign = jvm.find_jdk()[1] >= jvm.FOREIGN_JAVA
    assert len(ran) == (3 if foreign else 2), said[-4000:]
    assert int(ran[0]) >= 29
    assert all(int(count) >= 3 for count in ran)


def test_a_jvm_answers(built):
    """The way of the benchmarks: a process that is asked line by line."""
    jvm, folder, _ = built
    with jvm.JvmModel("onnxruntime", folder / "qwen3", threads=1) as model:
        assert "ONNX Runtime" in model.receipt
        first = model.ask(chat="Hello", max_tokens=5)
        assert len(first["tokens"]) == 5
        again = model.ask(ids=first["prompt"], max_tokens=5)
        assert again["tokens"] == first["tokens"]
    with pytest.raises(RuntimeError, match=r"no manifest\.json"):
        jvm.JvmModel("onnxruntime", folder, threads=1)
