"""Which form of attention over float16 cells a processor gets, and that the careful one sums in float32."""

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert import forms
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.forms import Forms, forms_for
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.step_contract import step_contracts

WIDE = Forms(alone=True, few=True)
AS_THEY_ARE = Forms(alone=False, few=False)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"float16_arithmetic": True, "avx512": True, "x86": True}, WIDE),
        ({"float16_arithmetic": True, "avx512": False, "x86": False}, WIDE),
        ({"float16_arithmetic": False, "avx512": True, "x86": True}, AS_THEY_ARE),
        ({"float16_arithmetic": False, "avx512": False, "x86": False}, AS_THEY_ARE),
        ({"float16_arithmetic": False, "avx512": False, "x86": True}, Forms(alone=False, few=True)),
    ],
)
def test_the_choice_goes_by_instruction_sets(processor, expected):
    assert forms_for(**processor) == expected


@pytest.fixture(scope="module")
def halves(converted_once, request):
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    source = request.config.rootpath / "tests/data/tiny/llama"
    options = {"targets": ("litert",), "recipes": ("f32",), "context": 256, "prove": False}
    return {cells: open_bundle(converted_once(source, cells=cells, **options)) for cells in NUMBERS}


NUMBERS = ("float16", "float32")


def opened(bundle, chosen):
    (variant,) = bundle.manifest.variants
    contracts = step_contracts(bundle.manifest, variant)
    path = bundle.file(variant.entry)
    return CompiledStepBackend(path, contracts, variant.steps, threads=1, weight_cache=None, forms=chosen)


def logits(model, tokens, before):
    """Of a step after as many cells as `before` has, the same numbers for any type of cells."""
    shape = next(s for s in model.shapes if s.tokens == s.rows == tokens and s.cells == before.shape[-2])
    cells = allocate_cells(model.contracts[shape.stack].groups, shape.cells)
    cells.arrays[0][...] = before
    arrays = model.buffers(shape)
    arrays.tokens[:], arrays.positions[:] = range(3, 3 + tokens), range(240, 240 + tokens)
    arrays.mask[:] = 0
    arrays.mask[:, -tokens:] = np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)
    arrays.rows[:] = range(tokens)
    model.run(shape, cells)
    return arrays.logits.copy()


@pytest.mark.parametrize("tokens", [1, 8])
def test_the_careful_form_reads_cells_as_float32(halves, tokens):
    model = opened(halves["float32"], AS_THEY_ARE)
    group = model.contracts["main"].groups[0]
    before = np.abs(np.random.default_rng(0).standard_normal(group.shape(256))).astype(np.float16)
    exact = logits(model, tokens, before)
    model.close()
    errors = {}
    for chosen in (WIDE, AS_THEY_ARE):
        model = opened(halves["float16"], chosen)
        errors[chosen] = np.abs(logits(model, tokens, before) - exact).max()
        model.close()
    # New keys and values are rounded in both; shares and queries only where float16 is multiplied.
    assert 0 < errors[WIDE] < errors[AS_THEY_ARE]


def test_no_product_of_the_careful_form_is_over_float16(halves):
    path = halves["float16"].file(halves["float16"].manifest.variants[0].entry)
    for name in ("step_1", "step_few"):
        products = {
            form: [
                operation.name
                for operation in read_signature(path, f"{name}{form}").operations
                if operation.kind == "QUANTIZE" and ".half" in operation.name
            ]
            for form in ("", "_wide")
        }
        assert any(".shares.half" in made for made in products[""])
        # What a step makes is rounded as it is kept; nothing else is.
        assert all("_new" in made or "new" in made for made in products["_wide"])
        assert not any(".shares.half" in made or ".q.half" in made for made in products["_wide"])


def test_this_processor_has_one_answer(monkeypatch):
    forms.forms_here.cache_clear()
    monkeypatch.setattr(forms, "instruction_sets", lambda: ("avx2", "avx512f", "avx512_fp16"))
    monkeypatch.setattr(forms, "has_float16_arithmetic", lambda: True)
    assert forms.forms_here() == WIDE
    forms.forms_here.cache_clear()
