"""Files are written with `write_file`, or in a draft: nothing half-written stays, and no link is followed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "edgesdk").rglob("*.py"), *(ROOT / "converters").rglob("*.py")])
WRITERS = {"write_text", "write_bytes", "TemporaryDirectory", "mkdtemp", "mkstemp", "NamedTemporaryFile"}

IN_DRAFTS = {
    "edgesdk_converters.calibration_windows": "a scratch folder",
    "edgesdk_converters.checkpoints.default_model": "a draft",
    "edgesdk_converters.checkpoints.write_huggingface": "a draft",
    "edgesdk_converters.convert": "a bundle's draft",
    "edgesdk_converters.emit": "a bundle's draft",
    "edgesdk_converters.quantise.sensitivity": "appends lines with checksums to a file in the cache",
    "edgesdk_converters.quantise.tensor_spool": "a bundle's draft",
    "edgesdk_converters.sweeps.job_store": "the draft of write_file",
    "edgesdk_converters.sweeps.run_job": "/dev/null",
    "edgesdk_converters.training.train_exits": "a scratch folder",
    "edgesdk_converters.training.trainer": "appends lines to a run's log, which write_file began",
    "edgesdk_converters.write_variants": "a bundle's draft",
    "edgesdk.backends.litert.keep_packed": "a draft",
    "edgesdk.bundle.import_bundle": "a bundle's draft, and a scratch folder",
    "edgesdk.bundle.package_list": "a bundle's draft",
    "edgesdk.bundle.write_file": "the draft itself",
    "edgesdk.bundle.writer": "a bundle's draft",
    "edgesdk.cli.embed": "the draft of write_file",
    "edgesdk.devices.probes.ask_litert": "a scratch folder",
    "edgesdk.devices.process_memory": "/proc",
    "edgesdk.evaluation.probe": "a bundle's draft",
    "edgesdk.evaluation.vector_probe": "a bundle's draft",
}
"""Modules that write by other means, and why they may."""


def module_name(path):
    root = ROOT / "converters" if path.is_relative_to(ROOT / "converters") else ROOT
    return ".".join(path.relative_to(root).with_suffix("").parts)


def writes(tree):
    """Lines that write files by name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        mode = name == "open" and any(
            set(text) <= set("rwxabt+") and set(text) & set("wxa+") for text in texts
        )
        if name in WRITERS or mode:
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_are_written_in_drafts(path):
    name = module_name(path)
    if not any(name == known or name.startswith(known + ".") for known in IN_DRAFTS):
        assert not list(writes(ast.parse(path.read_text(encoding="utf-8")))), "use edgesdk.bundle.write_file"


def test_the_list_names_nothing_that_does_not_write():
    for known in IN_DRAFTS:
        files = [f for f in FILES if module_name(f) == known or module_name(f).startswith(known + ".")]
        assert any(list(writes(ast.parse(file.read_text(encoding="utf-8")))) for file in files), known
