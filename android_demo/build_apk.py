"""Builds the app without Google's tools: an APK from Maven Central's and Debian's parts, signed.

    apt-get install aapt zipalign apksigner
    python android_demo/build_apk.py --out app.apk [--onnxruntime-aar FILE] [--with-address-import]

It compiles against Robolectric's `android-all` (the framework's classes and resources), turns class files
into dex with Jake Wharton's repackaged dx, and links, aligns and signs with Debian's aapt2, zipalign and
apksigner. ONNX Runtime's classes come from its jar; its native code for phones is in its AAR alone
(com.microsoft.onnxruntime:onnxruntime-android), which `--onnxruntime-aar` names. Without it the APK shows its
screen, and says that the runtime is missing when a model is loaded.

The APK asks for no permission. `--with-address-import` makes the other build of app/build.gradle, which asks
for the network, and imports models from an address that its user types.

Package, versions and SDK levels are those of app/build.gradle. A key for testing is made beside the APK and
kept; `--keystore` takes another, with its password in EDGEMODEL_KEY_PASSWORD.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the scripts beside this one are no package
import jvm

TOOLS = ("aapt2", "zipalign", "apksigner")
ANDROID_ALL = ("org.robolectric", "android-all", jvm.property_of_pom("android-all.version"))
DX = ("com.jakewharton.android.repackaged", "dalvik-dx", "11.0.0_r3")
ABI = "arm64-v8a"
SOURCES = ("edgemodel", "runtime-onnxruntime", "runtime-litert", "app")
NATIVES = ("libonnxruntime.so", "libonnxruntime4j_jni.so")
"""What ONNX Runtime's classes load."""

_PASSWORD = "EDGEMODEL_KEY_PASSWORD"
_TEST_PASSWORD = "for-testing"
_APP = jvm.ROOT / "app"


@dataclass(frozen=True)
class Settings:
    """What app/build.gradle says.

    Attributes:
        package: of the app.
        min_sdk: lowest level of Android that it installs on.
        target_sdk: level that it was written for.
        version_code: number of the version.
        version_name: name of the version.
    """

    package: str
    min_sdk: str
    target_sdk: str
    version_code: str
    version_name: str


def read_settings() -> Settings:
    """Reads app/build.gradle."""
    text = (_APP / "build.gradle").read_text(encoding="utf-8")

    def find(name: str) -> str:
        found = re.search(rf"^\s*{name} '?([^'\s]+)'?$", text, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"app/build.gradle says no {name}")
        return found.group(1)

    return Settings(
        find("applicationId"), find("minSdk"), find("targetSdk"), find("versionCode"), find("versionName")
    )


def lacking() -> str | None:
    """None where an APK can be built, else what is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {missing[0]}; apt-get install aapt zipalign apksigner"
    return jvm.lacking()


def build(
    out: Path, *, natives: Path | None = None, keystore: Path | None = None, address_import: bool = False
) -> Mapping[str, int]:
    """Builds an APK.

    Args:
        out: the APK; what was there stays when this fails.
        natives: ONNX Runtime's AAR; None for an APK without native code.
        address_import: ask for the network, to import models from an address.
        keystore: holds the key to sign with; None for one for testing.

    Returns:
        Bytes in the APK by part.

    Raises:
        RuntimeError: something is missing, or a tool failed; the message is its first line.
    """
    if natives is not None:
        _expect_natives(natives)
    if keystore is not None and not keystore.is_file():
        raise RuntimeError(f"{keystore} is no file, expected a keystore; name one, or leave --keystore out")
    reason = lacking()
    if reason is not None:
        raise RuntimeError(reason)
    settings = read_settings()
    framework, dx = jvm.fetch(*ANDROID_ALL), jvm.fetch(*DX)
    json_jar, onnx_jar = jvm.libraries()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".apk-") as name:
        work = Path(name)
        linked = _link(work, framework, settings, address_import)
        classes = _compile(work, framework, (json_jar, onnx_jar), work / "gen")
        dex = _dex(work, dx, settings, classes, (json_jar, _classes_of(work, onnx_jar)))
        _pack(linked, dex, natives)
        aligned, signed = work / "aligned.apk", work / "signed.apk"
        _run("zipalign", "-p", "4", linked, aligned)
        _sign(aligned, signed, keystore or _test_key(out.parent))
        signed.replace(out)
    return sizes(out)


def sizes(apk: Path) -> dict[str, int]:
    """Bytes that the parts of an APK take in it, and those of the whole."""
    found = {"dex": 0, "resources": 0, "natives": 0, "signature": 0}
    with zipfile.ZipFile(apk) as file:
        for entry in file.infolist():
            name = entry.filename
            kind = "natives" if name.startswith("lib/") else "dex" if name.endswith(".dex") else "resources"
            found["signature" if name.startswith("META-INF/") else kind] += entry.compress_size
    return found | {"whole": apk.stat().st_size}


def link_resources(folder: Path) -> None:
    """Links resources and manifest for tests: `linked.apk`, `AndroidManifest.xml` and `gen` with the class R.

    They are those of the build with import from an address, which has all there is to test.

    Raises:
        RuntimeError: aapt2 or the framework is missing, or aapt2 failed; the message is its first line.
    """
    if shutil.which("aapt2") is None:
        raise RuntimeError("there is no aapt2; apt-get install aapt")
    folder.mkdir(parents=True, exist_ok=True)
    _link(folder, jvm.fetch(*ANDROID_ALL), read_settings(), address_import=True)


def _manifest(package: str, address_import: bool) -> str:
    """That of the app, with what a flavour adds: its permissions, and attributes of the application."""
    ElementTree.register_namespace("android", "http://schemas.android.com/apk/res/android")
    manifest = ElementTree.parse(_APP / "src/main/AndroidManifest.xml").getroot()
    # For aapt2 alone: Android's Gradle plugin has the package's name from build.gradle.
    manifest.set("package", package)
    if address_import:
        added = ElementTree.parse(_APP / "src/address/AndroidManifest.xml").getroot()
        for permission in added.findall("uses-permission"):
            manifest.insert(0, permission)
        application, more = manifest.find("application"), added.find("application")
        assert application is not None
        assert more is not None
        application.attrib.update(more.attrib)
    return ElementTree.tostring(manifest, encoding="unicode")


def _link(work: Path, framework: Path, settings: Settings, address_import: bool) -> Path:
    """Resources and manifest, and the class R, whose source goes to `gen`."""
    stated = _manifest(settings.package, address_import)
    (work / "AndroidManifest.xml").write_text(stated, encoding="utf-8")
    _run("aapt2", "compile", "--dir", _APP / "src/main/res", "-o", work / "res.zip")
    _run(
        "aapt2",
        "link",
        *("-I", framework),
        *("--manifest", work / "AndroidManifest.xml"),
        *("--java", work / "gen"),
        *("--min-sdk-version", settings.min_sdk),
        *("--target-sdk-version", settings.target_sdk),
        *("--version-code", settings.version_code),
        *("--version-name", settings.version_name),
        *("-o", work / "linked.apk"),
        work / "res.zip",
    )
    return work / "linked.apk"


def _compile(work: Path, framework: Path, jars: Iterable[Path], generated: Path) -> Path:
    folders = [jvm.ROOT / name / "src" / "main" / "java" for name in SOURCES]
    sources = [path for folder in (*folders, generated) for path in sorted(folder.rglob("*.java"))]
    classes = work / "classes"
    _java(
        "javac",
        *("--release", "8", "-encoding", "UTF-8", "-d", classes),
        *("-Xlint:all,-options,-serial,-try,-classfile,-deprecation", "-Werror", "-proc:none"),
        *("-cp", os.pathsep.join(map(str, (framework, *jars)))),
        *sources,
    )
    return classes


def _classes_of(work: Path, jar: Path) -> Path:
    """The class files of a jar without its libraries for desktops."""
    small = work / "onnxruntime-classes.jar"
    with zipfile.ZipFile(jar) as source, zipfile.ZipFile(small, "w") as target:
        for entry in source.infolist():
            if entry.filename.startswith("ai/onnxruntime/") and entry.filename.endswith(".class"):
                target.writestr(entry, source.read(entry))
    return small


def _dex(work: Path, dx: Path, settings: Settings, classes: Path, jars: Iterable[Path]) -> Path:
    """Class files as dex. Lambdas in ONNX Runtime's classes stay what they are: in a text for people only."""
    dex = work / "classes.dex"
    _java(
        "java",
        *("-cp", dx, "com.android.dx.command.Main", "--dex"),
        *(f"--min-sdk-version={settings.min_sdk}", f"--output={dex}"),
        classes,
        *jars,
    )
    return dex


def _expect_natives(aar: Path) -> None:
    """Before anything is fetched and compiled."""
    artefact = f"onnxruntime-android-{jvm.property_of_pom('onnxruntime.version')}.aar"
    again = f"expected ONNX Runtime's AAR, {artefact}; fetch it, or leave the option out"
    if not aar.is_file():
        raise RuntimeError(f"{aar} is no file, {again}")
    if not zipfile.is_zipfile(aar):
        raise RuntimeError(f"{aar} is no zip, {again}")
    with zipfile.ZipFile(aar) as file:
        for name in NATIVES:
            if f"jni/{ABI}/{name}" not in file.namelist():
                raise RuntimeError(f"{aar.name} has no jni/{ABI}/{name}, {again}")


def _pack(apk: Path, dex: Path, natives: Path | None) -> None:
    with zipfile.ZipFile(apk, "a", zipfile.ZIP_DEFLATED) as target:
        target.write(dex, "classes.dex")
        if natives is None:
            return
        with zipfile.ZipFile(natives) as aar:
            for name in NATIVES:
                # As it is: the system maps libraries out of the APK (extractNativeLibs is false).
                target.writestr(f"lib/{ABI}/{name}", aar.read(f"jni/{ABI}/{name}"), zipfile.ZIP_STORED)


def _test_key(folder: Path) -> Path:
    keystore = folder / "for-testing.keystore"
    if not keystore.is_file():
        _java(
            "keytool",
            *("-genkeypair", "-keystore", keystore, "-storetype", "PKCS12", "-alias", "key"),
            *("-storepass", _TEST_PASSWORD, "-keyalg", "RSA", "-keysize", "3072", "-validity", "10000"),
            *("-dname", "CN=for testing"),
        )
    return keystore


def _sign(apk: Path, out: Path, keystore: Path) -> None:
    password = os.environ.get(_PASSWORD, _TEST_PASSWORD)
    _run(
        "apksigner",
        "sign",
        *("--ks", keystore, "--ks-pass", f"env:{_PASSWORD}"),
        *("--out", out, apk),
        environment={_PASSWORD: password},
    )


def _java(tool: str, *arguments: object) -> None:
    jdk = jvm.find_jdk()
    assert jdk is not None  # `lacking` has looked
    _run(jdk[0] / "bin" / tool, *arguments)


def _run(tool: object, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
    command = [str(tool), *map(str, arguments)]
    done = subprocess.run(
        command,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise RuntimeError(f"{Path(command[0]).name} failed: {(lines or ['no reason given'])[0]}")


def main() -> int:
    """Runs the script."""
    parser = argparse.ArgumentParser(description="Builds the Android app.")
    parser.add_argument("--out", type=Path, default=jvm.ROOT / "build" / "edgemodel.apk", help="APK to write")
    parser.add_argument("--onnxruntime-aar", type=Path, help="holds ONNX Runtime's native code for phones")
    parser.add_argument(
        "--with-address-import", action="store_true", help="ask for the network, to import from an address"
    )
    parser.add_argument("--keystore", type=Path, help=f"key to sign with; its password is in {_PASSWORD}")
    options = parser.parse_args()
    try:
        found = build(
            options.out,
            natives=options.onnxruntime_aar,
            keystore=options.keystore,
            address_import=options.with_address_import,
        )
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for part, count in found.items():
        print(f"{part}: {count:,} bytes")
    if options.onnxruntime_aar is None:
        print("without native code of ONNX Runtime: it shows its screen but runs no model", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
