import dataclasses
import os

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle import integrity
from edgesdk.bundle.manifest import PARITY_NAME, ParityReport
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import BundleError, UnsupportedOption
from edgesdk.evaluation.probe import write_probe
from edgesdk.evaluation.verify_bundle import verify_bundle

GATE = ParityReport("fake", 3, 1.0, 1.0, 1.0, 0.0, 1.0, 1.01, 0.99)


@pytest.fixture
def make(fake_runtime, texts):
    """A bundle whose probe says what the fake backend says, with noise of a given size."""
    manifest = open_bundle(fake_runtime()).manifest
    oracle = FakeStepBackend(manifest.decoder, manifest.variants[0].steps)

    def make_bundle(noise=0.0, parity=GATE, **options):
        rng = np.random.default_rng(1)
        logits = [oracle.expected_logits(text.tolist()) for text in texts]
        noisy = [rows + (noise * rng.normal(size=rows.shape)).astype(np.float32) for rows in logits]
        files = [(PARITY_NAME, lambda path: write_probe(path, texts, noisy))]
        return fake_runtime(parity=parity, files=files, **options)

    return make_bundle


def test_a_bundle_that_says_what_its_reference_says(make):
    stages = []
    report = verify_bundle(make(), report=stages.append)
    assert report.passed
    assert report.files == 4
    assert report.bytes > 1000
    (check,) = report.variants
    assert (check.variant, check.backend, check.status, check.reason) == ("only", "fake", "passed", None)
    assert check.measured.perplexity_ratio == pytest.approx(1)
    assert len(stages) == 2


def test_a_variant_that_misses_its_gate(make):
    report = verify_bundle(make(noise=3.0))
    assert not report.passed
    (check,) = report.variants
    assert check.status == "failed"
    assert "the recipe's" in check.reason


def test_the_gate_is_the_recorded_one(make):
    loose = dataclasses.replace(GATE, gate_perplexity_ratio=1e9, gate_top1_agreement=0.0)
    assert verify_bundle(make(noise=3.0, parity=loose)).passed


def test_what_a_backend_that_runs_here_refuses_has_failed(make):
    report = verify_bundle(make(), backend="refusing")
    (check,) = report.variants
    assert (check.status, check.backend) == ("failed", "refusing")
    assert "it never opens" in check.reason
    assert check.measured is None
    assert not report.passed


@pytest.mark.parametrize("module", ["dispatch.candidates", "devices.discover"])
def test_a_backend_that_does_not_run_here_is_not_checked(make, monkeypatch, module):
    path = make()
    monkeypatch.setattr(f"edgesdk.{module}.installed_version", lambda package: None)
    report = verify_bundle(path, backend="refusing")
    (check,) = report.variants
    assert (check.status, check.backend, check.measured) == ("not checked", "refusing", None)
    assert not report.passed


def test_a_backend_that_is_none_is_refused_before_anything_is_hashed(make):
    stages = []
    with pytest.raises(UnsupportedOption, match="backend 'nosuch' is unknown"):
        verify_bundle(make(), backend="nosuch", report=stages.append)
    assert stages == []


def test_a_variant_without_report_is_not_checked(make):
    (check,) = verify_bundle(make(parity=None)).variants
    assert check.status == "not checked"
    assert check.reason == "not proven: the bundle carries no reference"


def test_damage_is_found_although_the_file_system_shows_no_change(make, monkeypatch):
    monkeypatch.setattr(integrity, "fingerprint", lambda path, digest: [digest])
    path = make()
    tokenizer = path / "tokenizer.json"
    os.utime(tokenizer, (0, 0))
    verify_bundle(path)
    data = bytearray(tokenizer.read_bytes())
    data[50] ^= 1
    tokenizer.write_bytes(data)
    assert integrity.check_integrity(open_bundle(path), ["tokenizer.json"]) == "unchanged"
    with pytest.raises(BundleError, match=r"tokenizer\.json.*damaged"):
        verify_bundle(path)


def test_a_probe_that_is_none_is_damage(fake_runtime):
    path = fake_runtime(parity=GATE, files=[(PARITY_NAME, lambda path: path.write_bytes(b"PK"))])
    with pytest.raises(BundleError, match=r"parity\.npz is no parity probe"):
        verify_bundle(path)
