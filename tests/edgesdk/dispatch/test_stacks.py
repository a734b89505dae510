"""A second stack with ports of its own in one file: through split phases, failover and wide logits."""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.protocol import MASKED
from edgesdk.backends.wide_logits import WideLogits
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.port import Port
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_shape import MAIN
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.failover_steps import FailoverStepBackend
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.step_runner import StepEntry, StepRunner

A, B = Runner("v", "a", "cpu", "P"), Runner("v", "b", "cpu", "P")
DRAFT = "draft"
PORTS = {
    "inputs": (Port("gates", ("T", 3)), Port("strength", ("R",)), Port("image_mask", ("T", "S+T"))),
    "outputs": (Port("score", ("R", 2)), Port("state", ("T", 5)), Port("weights", ("R", "T"))),
}


def contracts(spec):
    shallow = dataclasses.replace(spec, blocks=spec.blocks[:2])
    return {MAIN: step_contract(spec, outputs=PORTS["outputs"]), DRAFT: step_contract(shallow, **PORTS)}


def both(shapes):
    return [
        shape if stack == MAIN else dataclasses.replace(shape, signature=f"d_{shape.signature}", stack=stack)
        for shape in shapes
        for stack in (MAIN, DRAFT)
    ]


@pytest.fixture
def make(spec, shapes):
    """A backend with both stacks, in sizes that may be others."""

    def build(cls=FakeStepBackend, *arguments, **sizes):
        return cls(spec(8), both(shapes(**sizes)), *arguments, contracts=contracts(spec(8)))

    return build


class Failing(FakeStepBackend):
    """Spoils its outputs and is lost from the start."""

    def run(self, shape, cells):
        arrays = self.buffers(shape)
        for array in (arrays.logits, arrays.port("score"), arrays.port("state"), *arrays.kv_new.arrays):
            array[...] = np.nan
        raise DeviceError("device lost")


def wrapped(name, make):
    """Both stacks behind each wrapper, and behind all of them at once."""
    if name == "split":
        return SplitStepBackend(make(), make())
    second = make(tokens=(1, 8, 32), cells=(24, 64))
    failover = FailoverStepBackend(make(Failing), A, [(B, lambda: (B, second))])
    if name == "failover":
        return failover
    kept = np.arange(0, 100, 2, dtype=np.int32)
    if name == "wide":
        return WideLogits(make(), kept, 100)
    return SplitStepBackend(WideLogits(failover, kept, 100), WideLogits(make(), kept, 100))


def fill(backend, shape, seed):
    """Random inputs for every port of a size, none of which a step may ignore, and cells."""
    rng = np.random.default_rng(seed)
    contract, arrays = backend.contracts[shape.stack], backend.buffers(shape)
    limits = {"tokens": 50, "positions": 60, "rows": shape.tokens}
    for port in contract.inputs:
        array = arrays.port(port.name)
        if port.is_mask:
            array[...] = np.where(rng.random(array.shape) < 0.5, np.float32(0), MASKED)
        elif port.dtype == "int32":
            array[...] = rng.integers(0, limits[port.name], array.shape)
        else:
            array[...] = rng.random(array.shape)
    cells = allocate_cells(contract.groups, shape.cells)
    for array in cells.arrays:
        array[...] = rng.random(array.shape)
    return cells


def results(backend, shape, seed):
    backend.run(shape, fill(backend, shape, seed))
    arrays = backend.buffers(shape)
    found = {port.name: arrays.port(port.name) for port in backend.contracts[shape.stack].outputs}
    return {**found, **{f"new {i}": array for i, array in enumerate(arrays.kv_new.arrays)}}


@pytest.mark.parametrize("name", ["split", "failover", "wide", "all"])
def test_every_port_of_every_stack_comes_through(make, name):
    plain, backend = make(), wrapped(name, make)
    assert {shape.stack for shape in backend.shapes} == {MAIN, DRAFT}
    for seed, shape in enumerate(plain.shapes):
        expected, found = results(plain, shape, seed), results(backend, shape, seed)
        assert set(found) == set(expected) >= {"logits", "score", "state"}
        if name in ("wide", "all"):
            assert (np.delete(found["logits"], np.s_[::2], axis=1) == MASKED).all()
            found["logits"] = found["logits"][:, ::2]
        for port, array in expected.items():
            assert np.array_equal(found[port], array), (shape, port)


@pytest.mark.parametrize("port", ["gates", "strength", "image_mask"])
def test_every_input_of_a_stack_matters(make, port):
    """Else the test above would pass with wrappers that forget it."""
    backend = make()
    shape = next(shape for shape in backend.shapes if shape.stack == DRAFT and shape.tokens > 1)
    cells = fill(backend, shape, 0)
    arrays = backend.buffers(shape)
    backend.run(shape, cells)
    before = arrays.logits.copy()
    arrays.port(port)[...] = MASKED if port == "image_mask" else 0.25
    backend.run(shape, cells)
    assert not np.array_equal(arrays.logits, before)


@pytest.mark.parametrize("name", ["split", "failover"])
def test_runners_of_two_stacks_take_turns_on_one_file(spec, shapes, tokens, name):
    """Each with cells of its own, through whatever wraps the file; a stack need not have more ports."""
    whole = spec(8)
    shallow = dataclasses.replace(whole, blocks=whole.blocks[:2])
    stacks = {MAIN: step_contract(whole), DRAFT: step_contract(shallow)}

    def make(cls=FakeStepBackend, **sizes):
        return cls(whole, both(shapes(**sizes)), contracts=stacks)

    class Lost(FakeStepBackend):
        def run(self, shape, cells):
            raise DeviceError("device lost")

    if name == "split":
        backend = SplitStepBackend(make(), make())
    else:
        second = make(tokens=(1, 8, 32), cells=(24, 64))
        backend = FailoverStepBackend(make(Lost), A, [(B, lambda: (B, second))])
    runners = {
        MAIN: StepRunner(backend, whole, 64),
        DRAFT: StepRunner(backend, shallow, 64, stack=DRAFT),
    }
    reference = make()
    expected = {stack: reference.expected_logits(tokens[:30].tolist(), stack) for stack in runners}
    assert not np.array_equal(expected[MAIN], expected[DRAFT])
    lists = {stack: runner.new_list() for stack, runner in runners.items()}
    start = 0
    for count in (5, 1, 1, 12, 1, 10):
        for stack, runner in runners.items():
            (logits,) = runner.run([StepEntry(lists[stack], tokens[start : start + count])])
            assert np.array_equal(logits, expected[stack][start + count - 1]), (stack, start)
        start += count


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: {MAIN: c[MAIN]}, "it has not every stack"),
        (lambda c: {**c, DRAFT: dataclasses.replace(c[DRAFT], outputs=c[DRAFT].outputs[:2])}, "port 'state'"),
        (
            lambda c: {**c, DRAFT: dataclasses.replace(c[DRAFT], inputs=c[DRAFT].inputs[:-1])},
            "port 'image_mask'",
        ),
        (
            lambda c: {**c, DRAFT: dataclasses.replace(c[MAIN], inputs=c[DRAFT].inputs)},
            "its layers are others",
        ),
    ],
)
def test_what_lacks_a_stack_or_a_port_cannot_take_over(make, spec, shapes, change, reason):
    second = FakeStepBackend(spec(8), both(shapes()), contracts=change(contracts(spec(8))))
    backend = FailoverStepBackend(make(Failing), A, [(B, lambda: (B, second))])
    shape = backend.shapes[0]
    with pytest.raises(DeviceError, match="nothing is left"):
        backend.run(shape, fill(backend, shape, 0))
    assert reason in backend.incidents[0].reason
    assert second.closed


def test_phases_with_other_layers_are_refused(make, spec, shapes):
    other = contracts(spec(8))
    other[DRAFT] = dataclasses.replace(other[MAIN])
    with pytest.raises(DeviceError, match="the layers of prefill and decode differ"):
        SplitStepBackend(FakeStepBackend(spec(8), both(shapes()), contracts=other), make())


def test_phases_with_other_ports_are_refused(make, spec, shapes):
    other = contracts(spec(8))
    other[MAIN] = dataclasses.replace(other[MAIN], outputs=other[MAIN].outputs[:1])
    with pytest.raises(DeviceError, match="the ports of prefill and decode differ"):
        SplitStepBackend(FakeStepBackend(spec(8), both(shapes()), contracts=other), make())


def test_a_size_of_a_stack_is_run_in_one_of_the_same_stack(make):
    backend = make()
    main = StepShape(1, 8, 1, "t1_s8_r1")
    assert main in backend.shapes
    results(backend, main, 0)
    assert backend.runs == [main]
