import pytest

from edgesdk.devices import cpu
from edgesdk.devices.bandwidth import measure_bandwidth
from edgesdk.devices.cpu import (
    CoreGroup,
    has_float16_arithmetic,
    lacking_flags,
    read_processor,
    usable_cores,
)

PHONE = """processor\t: 0
Features\t: fp asimd asimddp i8mm sve sve2 bf16
CPU implementer\t: 0x41
Hardware\t: Some Board
"""


@pytest.fixture
def root(tmp_path):
    """A phone with two fast and two slow cores."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(PHONE)
    for core, capacity in enumerate((400, 400, 1024, 1024)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}"
        (folder / "cpufreq").mkdir(parents=True)
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
        (folder / "cpufreq/cpuinfo_max_freq").write_text(f"{capacity * 3000}\n")
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "64K"), ("1", "Instruction", "64K"), ("3", "Unified", "8M"))
    ):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    return tmp_path


def test_a_phone_has_big_and_little_cores(root, monkeypatch):
    monkeypatch.setattr(cpu, "_usable_ids", lambda: (0, 1, 2))
    found = read_processor(root)
    assert found.name == "Some Board"
    assert found.features == ("dotprod", "i8mm", "SVE", "SVE2")
    assert found.groups == (CoreGroup(1, 1.0, 3072.0), CoreGroup(2, 0.391, 1200.0))
    assert found.caches == {"L1d": 64 << 10, "L3": 8 << 20}


def test_siblings_are_one_physical_core(root, monkeypatch):
    monkeypatch.setattr(cpu, "_usable_ids", lambda: (0, 1, 2))
    assert read_processor(root).physical_cores is None
    for core, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = root / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir()
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert read_processor(root).physical_cores == 2


def test_what_is_hidden_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "_ask_py_cpuinfo", lambda: ("", set()))
    found = read_processor(tmp_path)
    assert found.name
    assert (found.features, found.caches, len(found.groups)) == ((), {}, 1)


def test_nonsense_in_sysfs_is_ignored(root):
    (root / "sys/devices/system/cpu/cpu0/cpu_capacity").write_text("fast")
    (root / "sys/devices/system/cpu/cpu0/cache/index0/size").write_text("9" * 40)
    assert read_processor(root).caches == {"L3": 8 << 20}


def test_flags_that_are_missing(root):
    assert lacking_flags(("asimddp", "fphp", "sve", "avx"), root) == ("fphp", "avx")
    assert lacking_flags((), root) == ()
    (root / "proc/cpuinfo").write_text("processor\t: 0\n")  # a system that names none is not one without
    assert lacking_flags(("avx",), root) == ()


def test_py_cpuinfo_is_asked_without_proc(tmp_path):
    cpuinfo = pytest.importorskip("cpuinfo")
    expected = set(cpuinfo.get_cpu_info()["flags"])
    found = read_processor(tmp_path)
    assert ("AVX2" in found.features) == ("avx2" in expected)
    assert found.name == cpuinfo.get_cpu_info()["brand_raw"]


def test_this_machine():
    found = read_processor()
    assert found.cores == usable_cores() == sum(group.cores for group in found.groups)
    assert found.memory_bytes is None or found.memory_bytes > 1 << 28


def test_bandwidth_is_a_figure():
    assert 1e8 < measure_bandwidth(budget_s=0.0) < 1e13


@pytest.mark.parametrize(
    ("architecture", "line", "expected"),
    [
        ("x86_64", "flags\t: avx2 f16c avx512f avx512_vnni avx512_bf16", False),
        ("x86_64", "flags\t: avx2 f16c avx512f avx512_fp16", True),
        ("aarch64", "Features\t: fp asimd asimddp", False),
        ("aarch64", "Features\t: fp asimd fphp asimdhp asimddp", True),
    ],
)
def test_float16_arithmetic_is_told_from_storage(tmp_path, architecture, line, expected):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert has_float16_arithmetic(tmp_path, architecture) is expected


def test_where_instruction_sets_are_hidden_the_careful_answer_is_given_on_arm(tmp_path):
    assert has_float16_arithmetic(tmp_path, "arm64")
    assert isinstance(has_float16_arithmetic(tmp_path, "AMD64"), bool)
