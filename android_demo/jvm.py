"""Finds a JDK and Maven, builds the Java modules, and runs models of theirs for tests and benchmarks.

Maven keeps what it downloads in its local repository; once it is there, `offline` builds need no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from edgesdk.bundle.records import JsonValue

ROOT = Path(__file__).resolve().parent
LEAST_JAVA = 17
"""Of the tests; the library itself is Java 8."""

FOREIGN_JAVA = 22
"""Since then java.lang.foreign is final, which LiteRT on the desktop needs."""

_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
_POM = ROOT / "pom.xml"
_JDK_FOLDERS = ("/usr/lib/jvm", "/opt", "/Library/Java/JavaVirtualMachines")
_VERSION = re.compile(r'"(\d+)(?:\.[\d._]+)?')


def find_jdk() -> tuple[Path, int] | None:
    """The newest JDK: that of JAVA_HOME, or beside it in the usual places.

    Returns:
        Its folder and version; None if there is none of `LEAST_JAVA` or later.
    """
    named = os.environ.get("JAVA_HOME")
    on_path = shutil.which("javac")
    candidates = {Path(named)} if named else set()
    if on_path:
        candidates.add(Path(on_path).resolve().parent.parent)
    for folder in _JDK_FOLDERS:
        candidates.update(Path(folder).glob("*"))
        candidates.update(Path(folder).glob("*/Contents/Home"))
    found = [(home, version) for home in sorted(candidates) if (version := _version(home)) >= LEAST_JAVA]
    return max(found, key=lambda each: each[1], default=None)


def _version(home: Path) -> int:
    """Of a JDK; 0 where there is none."""
    release = home / "release"
    if not (home / "bin" / "javac").is_file() or not release.is_file():
        return 0
    for line in release.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _VERSION.search(line) if line.startswith("JAVA_VERSION=") else None
        if found:
            return int(found.group(1))
    return 0


def lacking() -> str | None:
    """None where the modules can be built, else what is missing."""
    if find_jdk() is None:
        return f"there is no JDK of version {LEAST_JAVA} or later"
    return None if shutil.which("mvn") else "there is no Maven (mvn)"


def maven(
    *arguments: str, offline: bool = False, properties: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Maven in this folder with the newest JDK.

    Args:
        arguments: goals and options.
        offline: download nothing.
        properties: of the build.

    Raises:
        OSError: there is no Maven.
        RuntimeError: there is no JDK.
    """
    jdk = find_jdk()
    if jdk is None:
        raise RuntimeError(f"there is no JDK of version {LEAST_JAVA} or later; install one, or set JAVA_HOME")
    given = [f"-D{name}={value}" for name, value in (properties or {}).items()]
    return subprocess.run(
        ["mvn", "-B", "-ntp", "-f", str(_POM), *(["-o"] if offline else []), *given, *arguments],
        env=os.environ | {"JAVA_HOME": str(jdk[0])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def property_of_pom(name: str) -> str:
    """A property of pom.xml, such as a version."""
    found = re.search(rf"<{re.escape(name)}>([^<]+)</", _POM.read_text(encoding="utf-8"))
    if found is None:
        raise KeyError(name)
    return found.group(1)


def repository() -> Path:
    """Maven's local repository."""
    named = os.environ.get("MAVEN_REPO_LOCAL")
    return Path(named) if named else Path.home() / ".m2" / "repository"


def library_jar(group: str, artifact: str, version: str) -> Path:
    """Where Maven keeps a library."""
    return repository().joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def check_parts() -> None:
    """Compares libraries that are there with the digests in parts.sha256.

    Raises:
        RuntimeError: one is another than that which was tested.
    """
    for line in (ROOT / "parts.sha256").read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        path = library_jar(*name.split(":"))
        if path.is_file():
            _expect_digest(path, digest)


def _expect_digest(path: Path, digest: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise RuntimeError(
            f"{path} has sha256 {found}, expected {digest}; delete it, to have it fetched again"
        )


def fetch(group: str, artifact: str, version: str) -> Path:
    """A library of Maven Central, downloaded if it is not there.

    Raises:
        RuntimeError: it cannot be had, or is another than that of parts.sha256.
    """
    path = library_jar(group, artifact, version)
    if not path.is_file():
        name = f"{group}:{artifact}:{version}"
        done = maven("-N", _GET, properties={"artifact": name, "transitive": "false"})
        if not path.is_file():
            lines = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
            raise RuntimeError(f"Maven cannot fetch {name}: {(lines or ['no reason given'])[0]}")
        check_parts()
    return path


def libraries() -> tuple[Path, Path]:
    """minimal-json and ONNX Runtime.

    Raises:
        RuntimeError: they cannot be had.
    """
    json_group = "com.eclipsesource.minimal-json"
    return (
        fetch(json_group, "minimal-json", property_of_pom("minimal-json.version")),
        fetch("com.microsoft.onnxruntime", "onnxruntime", property_of_pom("onnxruntime.version")),
    )


_MODULES = {
    "onnxruntime": ("runtime-onnxruntime",),
    "litert": ("runtime-litert", "runtime-litert-desktop"),
    "litert-jni": ("runtime-litert",),
}
_MAINS = {
    "onnxruntime": "edgemodel.onnxruntime.RunPrompts",
    "litert": "edgemodel.litert.RunPrompts",
    "litert-jni": "edgemodel.litert.RunJniPrompts",
}
_JNI_SOURCE = ROOT / "runtime-litert" / "src" / "main" / "c" / "edgemodel_litert.c"


def jni_library() -> Path:
    """What LiteRT needs by JNI, compiled for this machine's JVM if it was not.

    Raises:
        RuntimeError: there is no C compiler or JDK, or it refused the file; the message is its first line.
    """
    compiler, jdk = shutil.which(os.environ.get("CC", "cc")), find_jdk()
    if compiler is None or jdk is None:
        raise RuntimeError("there is no C compiler (cc)" if compiler is None else "there is no JDK")
    out = ROOT / "runtime-litert" / "target" / "libedgemodel_litert.so"
    if out.is_file() and out.stat().st_mtime > _JNI_SOURCE.stat().st_mtime:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    headers = jdk[0] / "include"
    platforms = [f"-I{path.parent}" for path in sorted(headers.glob("*/jni_md.h"))]
    made = out.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [
            *(compiler, "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC"),
            *("-shared", f"-I{headers}", *platforms, str(_JNI_SOURCE), "-o", str(made), "-ldl"),
        ],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = done.stderr.splitlines() or ["no reason given"]
        raise RuntimeError(f"{Path(compiler).name} refused {_JNI_SOURCE.name}: {lines[0]}")
    made.replace(out)
    return out


class JvmModel:
    """A bundle in a JVM of its own, asked through its standard input (PromptRunner.java)."""

    def __init__(
        self,
        runtime: str,
        bundle: Path,
        *,
        threads: int,
        options: Iterable[str] = (),
        classes: Path | None = None,
    ) -> None:
        """Starts it; the modules must have been built with their tests (`maven("test-compile")`).

        Args:
            runtime: onnxruntime, litert or litert-jni.
            bundle: with a variant for it, and chat_format.json for chats.
            threads: of the CPU.
            options: of the JVM.
            classes: a jar or folder that goes before the modules' own classes.

        Raises:
            RuntimeError: it did not start, or there is no C compiler; the message is one line.
        """
        jdk = find_jdk()
        if jdk is None:
            raise RuntimeError(f"there is no JDK of version {LEAST_JAVA} or later")
        modules = [ROOT / module / "target" for module in ("edgemodel", *_MODULES[runtime])]
        places = [target / kind for target in modules for kind in ("classes", "test-classes")]
        if classes is not None:
            places.insert(0, classes)
        arguments = [str(bundle), str(threads)]
        if runtime != "onnxruntime":
            from edgesdk.backends.litert.host_memory import library_path

            arguments.append(str(library_path()))
        if runtime == "litert-jni":
            arguments.append(str(jni_library()))
        self._process = subprocess.Popen(
            [
                str(jdk[0] / "bin" / "java"),
                "-Dstdout.encoding=UTF-8",
                *(["--enable-native-access=ALL-UNNAMED"] if jdk[1] >= FOREIGN_JAVA else []),
                *options,
                "-cp",
                os.pathsep.join(map(str, (*places, *libraries()))),
                _MAINS[runtime],
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.receipt = str(self._read()["receipt"])

    def ask(self, **request: JsonValue) -> dict[str, JsonValue]:
        """Answers a request, as PromptRunner.java describes it.

        Raises:
            RuntimeError: it failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, JsonValue]:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            lines = [text for text in self._process.stderr.read().splitlines() if "Exception" in text]
            self._process.wait()
            raise RuntimeError((lines or [f"the JVM ended with {self._process.returncode}"])[0])
        found: dict[str, JsonValue] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the JVM."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()

    def __enter__(self) -> JvmModel:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the JVM."""
        self.close()
