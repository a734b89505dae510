"""Opens Core ML variants: with Core ML on chosen units, or with the interpreter.

A variant's entry is `Manifest.json` of its package, so the package is the folder around it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH
from edgesdk.backends.coreml.ml_model import MlModelPredictor, Units
from edgesdk.backends.coreml.step_backend import CoreMLStepBackend
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells

_SLOW = "the Core ML program is interpreted in numpy to check it: slow, with the threads that numpy takes"
_COPIES = "cells are copied on every step, which costs time; apps on iOS do without"


def open_mil(request: OpenRequest) -> Opened:
    """Opens a variant with the interpreter.

    Raises:
        BundleError: the package is damaged.
        DeviceError: it is not what the manifest says.
        MissingExtra: coremltools is not installed.
    """
    predictor = MilInterpreter(_package(request))
    backend = CoreMLStepBackend(
        predictor, request.bundle.manifest.decoder_of(request.variant), request.variant.steps
    )
    return Opened(backend, "interpreter", notes=(_SLOW,))


def _open_units(request: OpenRequest, units: Units) -> Opened:
    predictor = MlModelPredictor(_package(request), units)
    backend = CoreMLStepBackend(
        predictor, request.bundle.manifest.decoder_of(request.variant), request.variant.steps
    )
    return Opened(backend, f"CoreML {units}", notes=(_COPIES,))


open_all = partial(_open_units, units="ALL")
open_gpu = partial(_open_units, units="CPU_AND_GPU")
open_cpu = partial(_open_units, units="CPU_ONLY")


def _package(request: OpenRequest) -> Path:
    """The package's folder, every file that is read from it listed in the manifest."""
    require_float_cells(request.variant, "coreml")
    bundle, folder = request.bundle, PurePosixPath(request.variant.entry).parent
    for name in (MODEL_PATH, WEIGHTS_PATH):
        bundle.file(str(folder / name))
    return bundle.file(request.variant.entry).parent
