"""Every kind of refusal: `strict` raises it and names the cause; without it the receipt has the same text.

The bundle's only variant is opened by the backend `fake`; each row puts something before it that is refused.
"""

import dataclasses
import json

import pytest

import edgesdk
from edgesdk.backends import registry
from edgesdk.backends.registry import Backend
from edgesdk.errors import DeviceError, MissingExtra, UnsupportedOption


def opens(request):
    raise AssertionError("it must be refused before it is opened")


def fails(error):
    def open_failing(request):
        raise error

    return open_failing


def backend(name="first", kind="litert", devices=("cpu",), package="numpy", open=opens):
    # As in the registry, accelerators are tried when they are asked for.
    return Backend(name, kind, devices, package, devices == ("cpu",), open)


# What stands before the fake backend, what is asked for, and the text of the refusal.
REFUSALS = {
    "its package is missing": (
        backend(package="no-such-package"),
        {},
        "refused: first on cpu (only): the package no-such-package is not installed",
    ),
    "the variant is for other devices": (
        backend(devices=("npu",)),
        {"device": "npu"},
        "refused: first on npu (only): the variant is made for cpu",
    ),
    "no variant of its format": (
        backend(kind="onnx-step", devices=("gpu",)),
        {"device": "gpu"},
        "refused: - on gpu (-): the bundle has no onnx-step variant",
    ),
    "nothing runs on that device": (
        backend(devices=("gpu",)),
        {"device": "npu"},
        "refused: - on npu (-): no backend runs on npu in this version",
    ),
    "the device refuses the model": (
        backend(open=fails(DeviceError("the driver has no float16"))),
        {},
        "refused: first on cpu (only): the driver has no float16",
    ),
    "an extra is missing": (
        backend(open=fails(MissingExtra("onnxruntime-qnn", "qnn"))),
        {},
        f"refused: first on cpu (only): {MissingExtra('onnxruntime-qnn', 'qnn')}",
    ),
    "a goal cannot be had": (
        backend(devices=("npu",), open=opens),
        {"goal": "npu"},
        "refused: first on npu (only): the variant is made for cpu",
    ),
}


@pytest.fixture
def bundle(fake_runtime, monkeypatch):
    def make(first):
        path = fake_runtime()
        fake = next(b for b in registry.BACKENDS if b.name == "fake")
        monkeypatch.setattr(registry, "BACKENDS", (first, fake))
        return path

    return make


@pytest.mark.parametrize("name", REFUSALS)
def test_the_receipt_names_it_and_strict_raises_it(name, bundle):
    first, asked, text = REFUSALS[name]
    path = bundle(first)
    with edgesdk.load(path, **asked) as model:
        assert [str(refusal) for refusal in model.receipt.refusals] == [text]
        # What runs is what the receipt says, and it says so of both phases.
        assert model.receipt.backend == "fake"
        assert {phase.runner.backend for phase in model.receipt.phases} == {"fake"}
        model.generate([5, 6], max_tokens=1)
        assert model.receipt.incidents == ()
    with pytest.raises(DeviceError) as raised:
        edgesdk.load(path, **asked, strict=True)
    assert str(raised.value) == text


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_other_cells_on_a_backend_without(bundle, kind):
    path = bundle(backend(kind="onnx-step"))
    manifest = json.loads((path / "manifest.json").read_text())
    (only,) = manifest["variants"]
    manifest["variants"] = [{**only, "name": "small", "format": "onnx-step", "cell_type": kind}, only]
    (path / "manifest.json").write_text(json.dumps(manifest))
    text = f"refused: first on cpu (small): first has no {kind} cells"
    with edgesdk.load(path) as model:
        assert [str(refusal) for refusal in model.receipt.refusals] == [text]
    with pytest.raises(DeviceError, match=f"first has no {kind} cells"):
        edgesdk.load(path, strict=True)


def test_nothing_is_left(bundle):
    """Where nothing can run, both say every cause."""
    path = bundle(backend(open=fails(DeviceError("it is asleep"))))
    broken = dataclasses.replace(registry.BACKENDS[1], open=fails(DeviceError("it is gone")))
    registry.BACKENDS = (registry.BACKENDS[0], broken)  # the fixture's monkeypatch puts it back
    with pytest.raises(DeviceError, match="first: it is asleep; fake: it is gone"):
        edgesdk.load(path)
    with pytest.raises(DeviceError, match="it is asleep"):
        edgesdk.load(path, strict=True)


def test_a_device_that_is_lost_later(fake_runtime, monkeypatch):
    """Without `strict` the successor takes over and is named; with it the failure is raised."""
    path = fake_runtime()
    fake = next(b for b in registry.BACKENDS if b.name == "fake")

    def open_lost(request):
        opened = fake.open(request)

        def run(shape, cells):
            raise DeviceError("device lost")

        opened.model.run = run
        return opened

    lost = dataclasses.replace(fake, name="lost", open=open_lost)
    monkeypatch.setattr(registry, "BACKENDS", (lost, fake))
    with edgesdk.load(path) as model:
        model.generate([5, 6], max_tokens=2)
        (incident,) = model.receipt.incidents
        assert (incident.kind, incident.reason) == ("failed", "device lost")
        assert (incident.before.backend, incident.successor.backend) == ("lost", "fake")
        assert model.receipt.backend == "fake"
    with edgesdk.load(path, strict=True) as model, pytest.raises(DeviceError, match="device lost"):
        model.generate([5, 6], max_tokens=2)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"strict": True, "serve_meanwhile": True, "device": "npu"}, "strict forbids"),
        ({"strict": True, "backend": "magic"}, "backend 'magic' is unknown"),
        ({"strict": True, "goal": "gpu", "device": "npu"}, "give one of them"),
    ],
)
def test_what_contradicts_itself_is_no_refusal_but_an_error(bundle, asked, text):
    with pytest.raises(UnsupportedOption, match=text):
        edgesdk.load(bundle(backend()), **asked)
