"""What `load` opens, what it says of it, and what happens when a device fails later."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import edgesdk
from edgesdk.backends import registry
from edgesdk.backends.onnxruntime_step import open_step
from edgesdk.backends.registry import Backend
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.records import to_json
from edgesdk.devices.governor import Governor, GovernorRule, GovernorSettings
from edgesdk.devices.measurement import Measurement, PhaseFigures
from edgesdk.devices.power_readings import PowerReadings
from edgesdk.dispatch import plan_for_goal
from edgesdk.engine.engine import Engine
from edgesdk.errors import DeviceError, UnsupportedOption

TINY = Path(__file__).parents[1] / "data" / "tiny"
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
PROMPT = [int(t) for t in np.random.default_rng(5).integers(3, 250, 40)]


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def tiny(request, converted_once):
    targets = ("litert", "onnx", "onnx-step")
    return converted_once(TINY / request.param, targets=targets, recipes=("f32",), context=128, prove=False)


@pytest.fixture
def figures(monkeypatch):
    """Replaces measuring: prefill and decode in tokens per second by backend; others have none."""

    def set_speeds(**speeds):
        def measure_all(bundle, candidates, threads, **_):
            rows = []
            for candidate in candidates:
                found = speeds.get(candidate.backend.name.replace("-", "_"))
                if found is None:
                    rows.append(
                        Measurement(*candidate.key, reason=candidate.refusal or "too slow to measure")
                    )
                    continue
                rows.append(
                    Measurement(
                        *candidate.key,
                        host_cells=bool(candidate.variant.steps),
                        prefill=PhaseFigures(found[0], 1.0, None),
                        decode=PhaseFigures(found[1], 1.0, None),
                    )
                )
            return tuple(rows)

        monkeypatch.setattr(plan_for_goal, "measure_all", measure_all)

    return set_speeds


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fail_after(monkeypatch):
    """Makes a backend fail for good after so many steps, which `left` holds."""

    def inject(name, steps):
        counts = {"left": steps}

        def change(backend):
            if backend.name != name:
                return backend

            def open_failing(request):
                opened = backend.open(request)
                run = opened.model.run

                def failing_run(shape, cells):
                    if not counts["left"]:
                        raise DeviceError("device lost")
                    counts["left"] -= 1
                    run(shape, cells)

                opened.model.run = failing_run
                return opened

            return replace(backend, open=open_failing)

        monkeypatch.setattr(registry, "BACKENDS", tuple(change(b) for b in registry.BACKENDS))
        return counts

    return inject


def answer(path, tokens=24, **options):
    with edgesdk.load(path, threads=1, **options) as model:
        return model.generate(PROMPT, max_tokens=tokens, **GREEDY).tokens, model.receipt


def test_without_a_goal_nothing_is_measured(tiny):
    tokens, receipt = answer(tiny)
    assert (receipt.backend, receipt.goal, receipt.choice, receipt.measured) == (
        "litert",
        None,
        "fixed order",
        (),
    )
    assert [phase.phase for phase in receipt.phases] == ["prefill", "decode"]
    assert {phase.runner.backend for phase in receipt.phases} == {"litert"}
    assert len(tokens) == 24


def test_split_phases_give_the_tokens_of_one_backend(tiny, figures):
    alone = {name: answer(tiny, backend=name)[0] for name in ("litert", "onnxruntime-step")}
    assert alone["litert"] == alone["onnxruntime-step"]
    figures(litert=(100, 90), onnxruntime_step=(900, 20))
    tokens, receipt = answer(tiny, goal="latency")
    assert tokens == alone["litert"]
    assert {phase.phase: phase.runner.backend for phase in receipt.phases} == {
        "prefill": "onnxruntime-step",
        "decode": "litert",
    }
    assert receipt.choice == "measured now"
    assert {row.backend for row in receipt.measured if row.reason is None} == {"litert", "onnxruntime-step"}
    assert answer(tiny, goal="latency")[1].choice == "measured before"
    to_json(receipt)


def test_a_split_model_serves_the_engine(tiny, figures):
    expected = answer(tiny, backend="litert")[0]
    figures(litert=(900, 20), onnxruntime_step=(100, 90))
    with Engine(edgesdk.load(tiny, goal="latency", threads=1), token_budget=8) as engine:
        found = [engine.submit(PROMPT, max_tokens=24, **GREEDY) for _ in range(3)]
        assert [f.result().tokens for f in found] == [expected] * 3
        assert {phase.runner.backend for phase in engine.model.receipt.phases} == {
            "litert",
            "onnxruntime-step",
        }
        engine.model.close()


@pytest.mark.parametrize("steps", [0, 1, 2, 9, 20])
def test_a_device_lost_in_mid_stream(tiny, fail_after, steps):
    expected = answer(tiny, backend="litert")[0]
    fail_after("litert", steps)
    with edgesdk.load(tiny, threads=1) as model:
        before = model.receipt
        stream = model.stream(PROMPT, max_tokens=24, **GREEDY)
        tokens = [*stream][-1].completion.tokens
        after = model.receipt
        # The next request runs on what took over.
        again = model.generate(PROMPT, max_tokens=24, **GREEDY).tokens
        assert len(model.receipt.incidents) == 1
    assert tokens == expected
    assert again == expected
    assert (before.backend, before.incidents) == ("litert", ())
    (incident,) = after.incidents
    assert (incident.before.backend, incident.reason) == ("litert", "device lost")
    assert incident.successor.backend == after.backend == "litert-interpreter"
    assert {phase.runner.backend for phase in after.phases} == {"litert-interpreter"}
    assert str(incident).startswith(
        "failed: litert-f32 with litert on cpu (XNNPACK): device lost; went on with"
    )


def test_a_phase_that_fails_is_taken_over_by_the_other(tiny, fail_after, figures):
    expected = answer(tiny, backend="litert")[0]
    fail_after("onnxruntime-step", 5)
    figures(litert=(900, 20), onnxruntime_step=(100, 90))
    tokens, receipt = answer(tiny, goal="latency")
    assert tokens == expected
    assert {phase.phase: phase.runner.backend for phase in receipt.phases} == {
        "prefill": "litert",
        "decode": "litert",
    }
    assert receipt.backend == "litert"
    assert receipt.accelerated_share is None


def test_strict_or_a_named_backend_does_not_go_on_elsewhere(tiny, fail_after):
    for options in ({"strict": True}, {"backend": "litert"}):
        fail_after("litert", 3)
        with (
            edgesdk.load(tiny, threads=1, **options) as model,
            pytest.raises(DeviceError, match="device lost"),
        ):
            model.generate(PROMPT, max_tokens=24, **GREEDY)


def test_the_engine_goes_on_when_a_device_is_lost(tiny, fail_after):
    expected = answer(tiny, backend="litert")[0]
    counts = fail_after("litert", 10**9)
    with Engine(edgesdk.load(tiny, threads=1), token_budget=16, check_steps=True) as engine:
        asked = [engine.submit(PROMPT, max_tokens=24, **GREEDY) for _ in range(4)]
        next(iter(asked[0]))
        counts["left"] = 2
        assert [each.result().tokens for each in asked] == [expected] * 4
        assert len(engine.model.receipt.incidents) == 1
        engine.model.close()


def test_a_device_that_is_not_there_is_refused_by_name(tiny):
    _, receipt = answer(tiny, device="npu")
    assert receipt.device == "cpu"
    (first, *_) = receipt.refusals
    assert first.device == "npu"
    with pytest.raises(DeviceError) as caught:
        answer(tiny, device="npu", strict=True)
    assert str(caught.value) == str(first)
    _, same = answer(tiny, goal="npu")
    assert [str(r) for r in same.refusals] == [str(r) for r in receipt.refusals]


def test_a_goal_whose_first_choice_fails_falls_back_or_raises(tiny, figures, monkeypatch):
    def refuse(request):
        raise DeviceError("it never opens")

    broken = tuple(replace(b, open=refuse) if b.name == "litert" else b for b in registry.BACKENDS)
    monkeypatch.setattr(registry, "BACKENDS", broken)
    figures(litert=(900, 90), onnxruntime_step=(100, 20))
    _, receipt = answer(tiny, goal="latency")
    assert receipt.backend == "onnxruntime-step"
    assert [str(r) for r in receipt.refusals] == ["refused: litert on cpu (litert-f32): it never opens"]
    with pytest.raises(DeviceError, match=r"^refused: litert on cpu \(litert-f32\): it never opens$"):
        answer(tiny, goal="latency", strict=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            {"goal": "speed"},
            "goal 'speed' is unknown; expected latency, throughput, power, memory, cpu, gpu, npu",
        ),
        ({"goal": "gpu", "device": "npu"}, "the goal is gpu, but device is npu"),
        ({"measure": True}, "measure=True needs a goal"),
        ({"device": "toaster"}, "device 'toaster' is unknown"),
        ({"threads": 0}, "threads is 0, expected between 1 and 256"),
        ({"threads": 100000}, "threads is 100000, expected between 1 and 256"),
        ({"serve_meanwhile": True}, "serve_meanwhile needs something to wait for"),
        ({"serve_meanwhile": True, "device": "cpu"}, "serve_meanwhile needs something to wait for"),
        ({"serve_meanwhile": True, "device": "npu", "strict": True}, "which strict forbids"),
    ],
)
def test_what_has_no_meaning_is_refused(tiny, options, what):
    with pytest.raises(UnsupportedOption, match=what):
        edgesdk.load(tiny, **options)


def test_a_format_that_is_not_there_is_named(tiny):
    what = r"nothing can run \w+: coreml-interpreter runs coreml variants, and the bundle has none"
    with pytest.raises(DeviceError, match=what):
        edgesdk.load(tiny, backend="coreml-interpreter")
    onnx = next(v.name for v in open_bundle(tiny).manifest.variants if v.format == "onnx-resident")
    what = "litert runs litert variants, and none was asked for; choose another variant or backend"
    with pytest.raises(DeviceError, match=what):
        edgesdk.load(tiny, backend="litert", variant=onnx)


def test_a_lost_device_that_kept_its_cache_to_itself(tiny, monkeypatch):
    """ONNX Runtime's resident graph first: its tokens are run again where another takes over."""
    expected = answer(tiny, backend="onnxruntime")[0]
    left = [9]

    def change(backend):
        def open_failing(request):
            opened = backend.open(request)
            make = opened.model.new_sequence

            def new_sequence():
                sequence = make()
                extend = sequence.extend

                def failing_extend(tokens, between=None):
                    left[0] -= 1
                    if left[0] < 0:
                        raise DeviceError("device lost")
                    return extend(tokens)

                sequence.extend = failing_extend
                return sequence

            opened.model.new_sequence = new_sequence
            return opened

        return replace(backend, open=open_failing) if backend.name == "onnxruntime" else backend

    order = sorted(registry.BACKENDS, key=lambda backend: backend.name != "onnxruntime")
    monkeypatch.setattr(registry, "BACKENDS", tuple(change(b) for b in order))
    tokens, receipt = answer(tiny)
    assert tokens == expected
    (incident,) = receipt.incidents
    assert (incident.before.backend, incident.successor.backend, receipt.backend) == (
        "onnxruntime",
        "litert",
        "litert",
    )


@pytest.fixture
def slow_npu(monkeypatch):
    """A backend of another runtime that calls itself an NPU, and opens, or fails, when told to."""
    go, failure, loads = threading.Event(), [], []

    def open_slowly(request):
        loads.append(request.threads)
        assert go.wait(30)
        if failure:
            raise DeviceError(failure[0])
        return open_step(request)

    row = Backend("slow", "onnx-step", ("npu",), "onnxruntime", False, open_slowly)
    monkeypatch.setattr(registry, "BACKENDS", (*registry.BACKENDS, row))
    yield SimpleNamespace(go=go, failure=failure, loads=loads)
    go.set()


def wait_for_openers():
    for thread in threading.enumerate():
        if thread.name == "edgesdk-open":
            thread.join(30)
            assert not thread.is_alive()


def test_it_serves_while_another_device_opens(tiny, slow_npu):
    expected = answer(tiny, backend="litert")[0]
    with edgesdk.load(tiny, device="npu", serve_meanwhile=True, threads=1) as model:
        assert (model.receipt.device, model.receipt.incidents) == ("cpu", ())
        stream = model.stream(PROMPT, max_tokens=24, **GREEDY)
        next(stream)
        slow_npu.go.set()
        wait_for_openers()
        assert model.receipt.device == "cpu"
        assert [*stream][-1].completion.tokens == expected
        receipt = model.receipt
        assert model.generate(PROMPT, max_tokens=24, **GREEDY).tokens == expected
    # Other backends of that class of devices are told as refused or as not opened.
    assert (receipt.device, receipt.backend, receipt.accelerated_share) == ("npu", "slow", None)
    assert {phase.runner.backend for phase in receipt.phases} == {"slow"}
    incident = receipt.incidents[-1]
    assert (incident.kind, incident.before.backend, incident.successor.backend) == ("ready", "litert", "slow")
    assert slow_npu.loads == [1]


def test_an_open_that_fails_leaves_the_cpu(tiny, slow_npu):
    expected = answer(tiny, backend="litert")[0]
    slow_npu.failure.append("the compiler gave up")
    slow_npu.go.set()
    with edgesdk.load(tiny, device="npu", serve_meanwhile=True, threads=1) as model:
        wait_for_openers()
        assert model.generate(PROMPT, max_tokens=24, **GREEDY).tokens == expected
        receipt = model.receipt
    assert (receipt.device, receipt.backend) == ("cpu", "litert")
    incident = receipt.incidents[-1]
    assert (incident.before.backend, incident.successor) == ("slow", None)
    assert str(incident) == "ready: onnx-step-f32 with slow on npu: could not take over: the compiler gave up"


def test_the_engine_serves_while_another_device_opens(tiny, slow_npu):
    expected = answer(tiny, backend="litert")[0]
    model = edgesdk.load(tiny, device="npu", serve_meanwhile=True, threads=1)
    with model, Engine(model, token_budget=16, check_steps=True) as engine:
        asked = [engine.submit(PROMPT, max_tokens=24, **GREEDY) for _ in range(3)]
        next(iter(asked[0]))
        slow_npu.go.set()
        wait_for_openers()
        assert [each.result().tokens for each in asked] == [expected] * 3
        assert engine.generate(PROMPT, max_tokens=24, **GREEDY).tokens == expected
        assert model.receipt.device == "npu"


def governed(rule, found):
    settings = GovernorSettings((rule,), every_s=0, clear_s=0)
    return Governor(settings, readings=lambda: found[0])


def test_a_governor_lowers_threads_and_lets_go(tiny):
    expected = answer(tiny, backend="litert")[0]
    found = [PowerReadings(temperature_c=50, zone="cpu")]
    governor = governed(GovernorRule(hotter_than_c=80, threads_share=0.5), found)
    with edgesdk.load(tiny, threads=2, governor=governor) as model:
        stream = model.stream(PROMPT, max_tokens=24, **GREEDY)
        next(stream)
        found[0] = PowerReadings(temperature_c=90, zone="cpu")
        next(stream)
        wait_for_openers()
        next(stream)
        assert model.receipt.threads == 1
        found[0] = PowerReadings(temperature_c=60, zone="cpu")
        next(stream)
        wait_for_openers()
        assert [*stream][-1].completion.tokens == expected
        receipt = model.receipt
    assert (receipt.threads, receipt.backend, receipt.notes) == (2, "litert", ())
    assert [(i.kind, i.reason) for i in receipt.incidents] == [
        ("governed", "cpu at 90 C (above 80 C): 1 thread instead of 2"),
        ("governed", "cpu at 60 C (no limit holds any more): 2 threads instead of 1"),
    ]


def test_a_governor_moves_to_another_device_and_limits_the_context(tiny, slow_npu):
    expected = answer(tiny, backend="litert")[0]
    slow_npu.go.set()
    found = [PowerReadings(battery_percent=50, on_battery=True)]
    governor = governed(GovernorRule(battery_below_percent=30, device="npu", context_tokens=50), found)
    with edgesdk.load(tiny, backend="auto", variant=None, threads=1, governor=governor) as model:
        whole = model.context
        found[0] = PowerReadings(battery_percent=20, on_battery=True)
        assert (model.context, model.full_context) == (50, whole)
        model.generate(PROMPT[:2], max_tokens=2, **GREEDY)
        wait_for_openers()
        # 40 tokens of the prompt, 10 of the answer, and one that is chosen and never run.
        assert model.generate(PROMPT, max_tokens=24, **GREEDY).tokens == expected[:11]
        with pytest.raises(edgesdk.CapacityError, match="the context holds 50"):
            model.generate(PROMPT * 2, max_tokens=1)
        with Engine(model, token_budget=16) as engine:
            assert engine.generate(PROMPT, max_tokens=24, **GREEDY).tokens == expected[:11]
        assert (model.receipt.device, model.receipt.backend) == ("npu", "slow")


def test_a_governor_that_sees_nothing_says_so(tiny):
    governor = Governor(readings=PowerReadings)
    _, receipt = answer(tiny, governor=governor)
    assert receipt.notes[-1] == (
        "the governor finds neither a battery nor a temperature here, so it limits nothing"
    )
    assert receipt.incidents == ()


@pytest.mark.parametrize(
    "bad",
    [
        *({"threads": "4"}, {"threads": True}, {"threads": 1.5}, {"governor": 5}, {"strict": "yes"}),
        *({"backend": 5}, {"backend": "x" * 200_000}, {"variant": "x" * 200_000}, {"recipe": [1]}),
        *({"device": "x" * 200_000}, {"goal": [5]}, {"measure": 1}, {"cancelled": True}, {"path": 5}),
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_arguments_of_a_wrong_type_are_one_line(fake_runtime, bad):
    path = fake_runtime()
    with pytest.raises(UnsupportedOption, match=next(iter(bad)) if "path" not in bad else "bundle") as caught:
        edgesdk.load(bad.pop("path", path), **bad)
    assert len(str(caught.value)) < 250
