"""The APK that is built without Google's tools: signed, asking for nothing, with what the app needs in it."""

import re
import subprocess
import zipfile

import pytest

PAGE_BYTES = 4096
XMLTREE = ("xmltree", "--file", "AndroidManifest.xml")


@pytest.fixture(scope="module")
def build_apk(script):
    module = script("build_apk")
    reason = module.lacking()
    if reason is not None:
        pytest.skip(f"{reason}: the APK is not built")
    return module


@pytest.fixture(scope="module")
def aar(jvm, build_apk, tmp_path_factory):
    """An AAR with libraries for Arm, those of Linux: an APK of it is whole, but runs no model on a phone."""
    try:
        _, jar = jvm.libraries()
    except RuntimeError as error:
        pytest.skip(f"{error}: the APK is not built")
    path = tmp_path_factory.mktemp("aar") / "onnxruntime.aar"
    with zipfile.ZipFile(jar) as source, zipfile.ZipFile(path, "w") as target:
        for name in build_apk.NATIVES:
            target.writestr(
                f"jni/{build_apk.ABI}/{name}", source.read(f"ai/onnxruntime/native/linux-aarch64/{name}")
            )
    return path


@pytest.fixture(scope="module")
def apk(build_apk, aar, tmp_path_factory):
    path = tmp_path_factory.mktemp("apk") / "app.apk"
    try:
        build_apk.build(path, natives=aar)
    except RuntimeError as error:
        if "Maven cannot fetch" in str(error):
            pytest.skip(f"{error}: the APK is not built")
        raise
    return path


def say(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_is_signed(apk):
    said = say("apksigner", "verify", "--verbose", str(apk))
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in said
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in said


def test_it_asks_for_nothing(apk, build_apk):
    settings = build_apk.read_settings()
    said = say("aapt2", "dump", "badging", str(apk))
    assert "uses-permission" not in said
    assert f"package: name='{settings.package}' versionCode='{settings.version_code}'" in said
    assert f"sdkVersion:'{settings.min_sdk}'" in said
    assert f"targetSdkVersion:'{settings.target_sdk}'" in said
    assert f"launchable-activity: name='{settings.package}.MainActivity'" in said
    assert f"native-code: '{build_apk.ABI}'" in said


def test_the_build_with_import_from_an_address_asks_for_the_network_alone(build_apk, apk, tmp_path):
    path = tmp_path / "address.apk"
    build_apk.build(path, address_import=True)
    say("apksigner", "verify", str(path))
    badging, tree = (say("aapt2", "dump", *what, str(path)) for what in (["badging"], XMLTREE))
    assert re.findall("uses-permission: name='([^']+)'", badging) == ["android.permission.INTERNET"]
    assert "usesCleartextTraffic(0x010104ec)=true" in tree
    assert "usesCleartextTraffic" not in say("aapt2", "dump", *XMLTREE, str(apk))


def test_all_that_is_needed_is_in_it(apk, build_apk, aar):
    with zipfile.ZipFile(apk) as file, zipfile.ZipFile(aar) as natives:
        names = set(file.namelist())
        libraries = {f"lib/{build_apk.ABI}/{name}" for name in build_apk.NATIVES}
        assert {name for name in names if name.startswith("lib/")} == libraries
        for name in libraries:
            entry = file.getinfo(name)
            assert entry.compress_type == zipfile.ZIP_STORED
            header = file.fp
            header.seek(entry.header_offset + 26)
            lengths = header.read(4)
            start = entry.header_offset + 30 + int.from_bytes(lengths[:2], "little")
            start += int.from_bytes(lengths[2:], "little")
            assert start % PAGE_BYTES == 0  # so that the system can map it
            assert file.read(name) == natives.read(f"jni/{name.removeprefix('lib/')}")
        dex = file.read("classes.dex")
    for name in (
        "edgemodel/app/MainActivity",
        "edgemodel/onnxruntime/OnnxStepModel",
        "ai/onnxruntime/OrtSession",
    ):
        assert f"L{name};".encode() in dex
    assert b"java/lang/foreign" not in dex
    sizes = build_apk.sizes(apk)
    assert sizes["dex"] < 300_000
    assert sizes["whole"] >= sizes["natives"] > 10_000_000


def test_its_dex_gives_the_tokens_of_the_class_files(apk, built, tmp_path):
    """Back into class files by another tool than made it, and run: what `dx` wrote means the same.

    ONNX Runtime's classes are not among them: the translation knows no static methods of interfaces.
    """
    enjarify = pytest.importorskip("enjarify.main")
    jvm, folder, _ = built
    with zipfile.ZipFile(apk) as file:
        classes, errors = enjarify.translate(file.read("classes.dex"), enjarify.Options())
    ours = {name: code for name, code in classes.items() if not name.startswith("ai/onnxruntime/")}
    assert not [name for name in errors if not name.startswith("ai/onnxruntime/")]
    assert len(ours) > 100
    replayed = tmp_path / "replayed.jar"
    enjarify.write_jar(replayed, ours)
    answers = []
    for before in (None, replayed):
        loaded = ("-Xlog:class+load:file=" + str(tmp_path / "loaded.txt"),)
        with jvm.JvmModel(
            "onnxruntime", folder / "qwen3", threads=1, classes=before, options=loaded
        ) as model:
            texts = model.ask(text="Ä 12 <|im_end|> \u00a0x")["ids"]
            found = [model.ask(chat="Hello", max_tokens=24, drafts=drafts) for drafts in (False, True)]
            answers.append((texts, [answer["tokens"] for answer in found]))
    assert answers[0] == answers[1]
    said = (tmp_path / "loaded.txt").read_text(encoding="utf-8")
    assert re.search(r"edgemodel\.decoding\.Answer source: .*replayed\.jar", said)


def test_a_wrong_aar_is_said_before_anything_is_made(build_apk, tmp_path, monkeypatch, capsys):
    missing, text, other, out = (tmp_path / name for name in ("no.aar", "a.aar", "other.aar", "out/app.apk"))
    text.write_text("nothing", encoding="utf-8")
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("classes.jar", b"")
    given = {
        (
            "--onnxruntime-aar",
            missing,
        ): "no.aar is no file, expected ONNX Runtime's AAR, onnxruntime-android-",
        ("--onnxruntime-aar", text): "a.aar is no zip, expected",
        ("--onnxruntime-aar", other): "other.aar has no jni/arm64-v8a/libonnxruntime.so, expected",
        ("--keystore", missing): "no.aar is no file, expected a keystore; name one",
    }
    for (option, path), message in given.items():
        monkeypatch.setattr("sys.argv", ["build_apk.py", "--out", str(out), option, str(path)])
        assert build_apk.main() == 1
        said = capsys.readouterr().err
        assert message in said
        assert said.startswith("error: ")
        assert len(said.splitlines()) == 1
    assert not out.parent.exists()


def test_gradle_and_maven_name_the_same_versions(jvm, script):
    gradle = (jvm.ROOT / "app" / "build.gradle").read_text(encoding="utf-8")
    assert f"onnxruntime-android:{jvm.property_of_pom('onnxruntime.version')}'" in gradle
    assert f"minimal-json:{jvm.property_of_pom('minimal-json.version')}'" in gradle
    assert script("build_apk").read_settings().package == "edgemodel.app"
