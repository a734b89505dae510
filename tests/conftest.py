"""Fixtures for every test: a cache of its own, and the real model, fetched once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_CACHE = Path(os.environ.get("EDGESDK_TEST_CACHE", Path.home() / ".cache" / "edgesdk-tests"))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests touch neither the user's cache nor their models; only the downloaded model outlives them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESDK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGESDK_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _few_questions():
    """Conversions ask 8 of the 100 questions: hundreds of tiny models are converted here."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            from edgesdk_converters.parity import answer_questions as module
        except ImportError:  # without the extra `convert` nothing is converted
            yield
            return
        all_of_them = module.questions
        patch.setattr(module, "questions", lambda: all_of_them()[:8])
        yield


@pytest.fixture(scope="session")
def smollm2_gguf(_own_cache) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, checked by sha256, kept between sessions."""
    from edgesdk_converters.checkpoints.default_model import fetch_default_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESDK_CACHE", str(REAL_CACHE))
        return fetch_default_model("smollm2-135m")
