"""Opens Core ML variants: with Core ML on chosen units, or with the interpreter.

A variant's entry is `Manifest.json` of its package, so the package is the folder around it; of a variant
in several packages it is the list of them. What opens a package is imported then: whoever loads a bundle has
this module, and few of them open a package.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgesdk.backends.check_variant import checked
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.bundle.package_list import PACKAGE_LIST_NAME, read_package_list
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.step_contract import step_contracts

if TYPE_CHECKING:
    from edgesdk.backends.coreml.ml_model import Units
    from edgesdk.backends.coreml.parts import PartsPredictor
    from edgesdk.backends.coreml.state_backend import CoreMLStateModel, StatePredictor
    from edgesdk.backends.coreml.step_backend import CoreMLStepBackend, Predictor

_SLOW = "the Core ML program is interpreted in numpy to check it: slow, with the threads that numpy takes"
_COPIES = "cells are copied on every step, which costs time; apps on iOS do without"


@checked
def open_mil(request: OpenRequest) -> Opened:
    """Opens a variant with the interpreter.

    Raises:
        BundleError: a package is damaged.
        DeviceError: it is not what the manifest says.
        MissingExtra: coremltools is not installed.
    """
    return Opened(_step_backend(_interpreter(request), request), "interpreter", notes=(_SLOW,))


@checked
def open_mil_state(request: OpenRequest) -> Opened:
    """Opens a stateful variant with the interpreter; raises what `open_mil` raises."""
    return Opened(_state_model(_interpreter(request), request), "interpreter", notes=(_SLOW,))


@checked
def open_state(request: OpenRequest) -> Opened:
    """Opens a stateful variant with Core ML, which chooses the units.

    Raises:
        DeviceError: this is not macOS, or a package is not what the manifest says.
        MissingExtra: coremltools is not installed.
    """
    return Opened(_state_model(_core_ml(request, "ALL"), request), "CoreML ALL")


def _open_units(request: OpenRequest, units: Units) -> Opened:
    return Opened(_step_backend(_core_ml(request, units), request), f"CoreML {units}", notes=(_COPIES,))


open_all = checked(partial(_open_units, units="ALL"))
open_gpu = checked(partial(_open_units, units="CPU_AND_GPU"))
open_cpu = checked(partial(_open_units, units="CPU_ONLY"))


def _interpreter(request: OpenRequest) -> PartsPredictor:
    from edgesdk.backends.coreml.interpreter import MilInterpreter
    from edgesdk.backends.coreml.parts import PartsPredictor

    return PartsPredictor([MilInterpreter(package) for package in _packages(request)])


def _core_ml(request: OpenRequest, units: Units) -> PartsPredictor:
    from edgesdk.backends.coreml.ml_model import MlModelPredictor
    from edgesdk.backends.coreml.parts import PartsPredictor

    return PartsPredictor([MlModelPredictor(package, units) for package in _packages(request)])


def _step_backend(predictor: Predictor, request: OpenRequest) -> CoreMLStepBackend:
    from edgesdk.backends.coreml.step_backend import CoreMLStepBackend

    contracts = step_contracts(request.bundle.manifest, request.variant)
    return CoreMLStepBackend(predictor, contracts, request.variant.steps)


def _state_model(predictor: StatePredictor, request: OpenRequest) -> CoreMLStateModel:
    from edgesdk.backends.coreml.state_backend import CoreMLStateModel

    variant = request.variant
    spec = request.bundle.manifest.decoder_of(variant)
    return CoreMLStateModel(predictor, spec, variant.steps, variant.context)


def _packages(request: OpenRequest) -> list[Path]:
    """The folders of the packages in order, every file that is read from them listed in the manifest."""
    require_float_cells(request.variant, "coreml")
    bundle, entry = request.bundle, PurePosixPath(request.variant.entry)
    if entry.name != PACKAGE_LIST_NAME:
        return [_package(bundle, entry.parent)]
    names = read_package_list(bundle.file(str(entry))).packages
    return [_package(bundle, entry.parent / name) for name in names]


def _package(bundle: Bundle, folder: PurePosixPath) -> Path:
    from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH

    for name in (MODEL_PATH, WEIGHTS_PATH):
        bundle.file(str(folder / name))
    return bundle.file(str(folder / "Manifest.json")).parent
