from dataclasses import replace

from edgesdk.devices.receipt import Incident, Phase, Receipt, Refusal, Runner

PLAIN = Receipt(
    bundle="SmolLM2",
    variant="litert-w8",
    recipe="w8",
    backend="litert",
    device="cpu",
    provider="XNNPACK",
    accelerated_share=None,
    threads=2,
    load_ms=122.4,
    weight_cache="hit",
    integrity="unchanged",
)
LINE = (
    "SmolLM2 litert-w8; litert on cpu (XNNPACK); 2 threads; loaded in 122 ms; files unchanged; "
    "packed weights found"
)


def test_a_receipt_is_one_line_for_people_and_a_record_for_machines():
    assert str(PLAIN) == LINE
    assert repr(PLAIN).startswith("Receipt(bundle='SmolLM2', variant='litert-w8', ")
    shared = replace(PLAIN, accelerated_share=0.5, threads=1, weight_cache=None)
    assert "(XNNPACK, 50% of operations); 1 thread; loaded in 122 ms; files unchanged" in str(shared)


def test_what_was_refused_or_changed_comes_before_it():
    litert, onnx = (Runner(name, name, "cpu", "") for name in ("litert", "onnx"))
    full = replace(
        PLAIN,
        refusals=(Refusal("litert", "litert-w8", "gpu", "no GPU"),),
        notes=("cold",),
        goal="latency",
        phases=(Phase("prefill", litert), Phase("decode", onnx)),
        incidents=(Incident(litert, "it failed", onnx),),
    )
    assert str(full).splitlines() == [
        "refused: litert on gpu (litert-w8): no GPU",
        "failed: litert with litert on cpu: it failed; went on with onnx with onnx on cpu",
        "note: cold",
        "chosen for latency, fixed order",
        "prefill: litert with litert on cpu",
        "decode: onnx with onnx on cpu",
        LINE,
    ]


def test_names_from_files_cannot_break_the_line():
    assert str(replace(PLAIN, bundle="a\nb\x1b[31m")).startswith("a b?[31m litert-w8; ")
