"""Audits the dependencies: lower bounds and installed versions against a dated list, then pip-audit online.

    python .ci/audit.py [--online]

The list (advisories.toml) needs no network. pip-audit asks the package index or osv.dev; where neither
answers, that part is skipped and says so, unless `--online` demands it. Exit code 1 when something is found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LEAST = re.compile(r">=\s*([0-9.]+)")
TIMEOUT_S = 300


def numbers(text: str) -> tuple[int, ...]:
    """A version as numbers: what follows a letter is left out."""
    found = tuple(int(part) for part in re.match(r"[0-9.]*", text)[0].strip(".").split(".") if part)
    while found and not found[-1]:
        found = found[:-1]
    return found


def plain(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(project: dict) -> list[str]:
    """Every requirement of pyproject.toml."""
    extras = project["project"]["optional-dependencies"].values()
    lists = (project["build-system"]["requires"], project["project"]["dependencies"], *extras)
    return [line for lines in lists for line in lines]


def check_list(lines: list[str], advisories: list[dict]) -> list[str]:
    """Requirements that allow a version with an advisory, and installed versions that have one."""
    found = []
    for advisory in advisories:
        name, fixed = advisory["package"], numbers(advisory["fixed"])
        for line in lines:
            least = _LEAST.search(line)
            if plain(_NAME.match(line)[0]) == name and (least is None or numbers(least[1]) < fixed):
                found.append(
                    f"pyproject.toml allows {line!r}, expected >={advisory['fixed']}: {advisory['id']}"
                )
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if name != "setuptools" and numbers(installed) < fixed:  # of a build it is another one
            found.append(f"{name} {installed} is installed, expected {advisory['fixed']}: {advisory['id']}")
    return found


def ask_online() -> list[str] | None:
    """What pip-audit finds of the installed packages; None where no service answers for them."""
    pinned = "".join(
        f"{d.name}=={d.version}\n" for d in distributions() if d.name and plain(d.name) != "edgesdk"
    )
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "installed.txt")
        names.write_text(pinned, encoding="utf-8")
        python = Path(folder, "venv", "Scripts" if sys.platform == "win32" else "bin", "python")
        try:
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True, timeout=TIMEOUT_S)
            install = [python, "-m", "pip", "install", "-q", "pip-audit"]
            subprocess.run(install, check=True, timeout=TIMEOUT_S, capture_output=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        for service in ("osv", "pypi"):
            command = [python, "-m", "pip_audit", "-r", names, "--no-deps", "--disable-pip", "-s", service]
            try:
                done = subprocess.run(
                    [*command, "-f", "json", "--progress-spinner", "off", "--timeout", "15"],
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                )
                packages = json.loads(done.stdout)["dependencies"]
            except (subprocess.TimeoutExpired, ValueError, KeyError):
                continue
            answered = [package for package in packages if "vulns" in package]
            if len(answered) * 2 > len(packages):  # a mirror without advisories knows none of them
                return [
                    f"{package['name']} {package['version']}: {each['id']}, fixed in {each['fix_versions']}"
                    for package in answered
                    for each in package["vulns"]
                ]
    return None


def main() -> int:
    """Runs both parts."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = tomllib.loads((ROOT / ".ci" / "advisories.toml").read_text(encoding="utf-8"))
    found = check_list(requirements(project), known["advisory"])
    online = ask_online()
    if online is None:
        print(f"audit skipped: service not reachable; held against the list of {known['date']} only")
    for line in (*found, *(online or ())):
        print(f"audit: {line}")
    return 1 if found or online or (online is None and "--online" in sys.argv) else 0


if __name__ == "__main__":
    sys.exit(main())
