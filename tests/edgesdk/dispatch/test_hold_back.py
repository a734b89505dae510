from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgesdk.bundle.reader import open_bundle
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.hold_back import hold_back
from edgesdk.dispatch.plan import Plan


@pytest.fixture(scope="module")
def make(tiny_steps):
    """A candidate of a variant of a real bundle, on any device."""
    by_format = {variant.format: variant for variant in open_bundle(tiny_steps).manifest.variants}

    def candidate(name, device, refusal=None, format="litert", **changes):
        variant = replace(by_format[format], **changes)
        return Candidate(variant, SimpleNamespace(name=name), device, refusal)

    return candidate


def order(plan):
    return [(prefill.backend.name, decode.backend.name) for prefill, decode in plan.attempts]


def single(*candidates):
    return Plan(tuple((candidate, candidate) for candidate in candidates))


def test_the_cpu_serves_and_accelerators_are_opened_meanwhile(make):
    gone, npu, gpu = make("gone", "npu", "no driver"), make("npu", "npu"), make("gpu", "gpu")
    other, cpu, also = make("other", "cpu", recipe="w4"), make("cpu", "cpu"), make("also", "cpu")
    plan, better = hold_back(single(gone, npu, gpu, other, cpu, also))
    # Those that are refused stay first: the receipt is to name them.
    assert [name for name, _ in order(plan)] == ["gone", "cpu", "also", "npu", "gpu", "other"]
    assert better == (npu, gpu)
    assert plan.notes == ()


def test_without_an_accelerator_nothing_changes(make):
    for plan in (
        single(make("cpu", "cpu"), make("npu", "npu")),
        single(make("n", "npu", "no"), make("c", "cpu")),
    ):
        assert hold_back(plan) == (plan, ())


@pytest.mark.parametrize(
    "changes", [{"recipe": "w4"}, {"context": 4096}, {"cell_type": "int8"}, {"numbers": "1" * 64}]
)
def test_other_weights_do_not_serve(make, changes):
    plan = single(make("npu", "npu"), make("cpu", "cpu", **changes))
    found, better = hold_back(plan)
    assert (found.attempts, better) == (plan.attempts, ())
    (note,) = found.notes
    assert note.startswith("nothing on the CPU has the weights and at most the context of litert-f32 on npu")


def test_split_phases_are_opened_first(make):
    npu, cpu = make("npu", "npu"), make("cpu", "cpu")
    plan = Plan(((npu, cpu), (cpu, cpu)))
    found, better = hold_back(plan)
    assert (found.attempts, better) == (plan.attempts, ())
    assert "the phases run on two devices" in found.notes[0]
