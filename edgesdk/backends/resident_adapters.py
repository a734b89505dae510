"""The adapters beside a resident model: what its inputs for them are filled with, for the gates of a request.

Each product that an adapter may change has two inputs, `PRODUCT.lora_A` (I, r) and `PRODUCT.lora_B`
(r, O), that are empty unless somebody fills them. One adapter fills them with what its file holds; several,
or one with a factor, with their A side by side and their B, times the factors, below each other: the sum of
their terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

import numpy as np

from edgesdk.backends.onnx_adapter_file import read_onnx_adapter
from edgesdk.backends.protocol import Float
from edgesdk.bundle.adapter_record import INNER_INPUT, WRITTEN_INPUT, Gates, adapter_file_name
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import BundleError, DeviceError

MOST_MIXTURES = 4
"""Sums of adapters that are kept: each has the size of those that it is made of."""


def adapter_files(bundle: Bundle, variant: Variant) -> dict[int, Path]:
    """Files of the adapters of a resident variant, by gate.

    Args:
        bundle: its bundle.
        variant: a resident one.

    Raises:
        BundleError: one that the manifest lists is not there.
    """
    folder = PurePosixPath(variant.entry).parent
    names = {record.gate: str(folder / adapter_file_name(record)) for record in bundle.manifest.adapters}
    return {gate: bundle.file(name) for gate, name in names.items() if name in bundle.manifest.files}


class ResidentAdapters:
    """Adapters of one opened model."""

    def __init__(
        self, files: Mapping[int, Path], inputs: Mapping[str, Sequence[object]] | None = None
    ) -> None:
        """Maps the files.

        Args:
            files: of each adapter, by gate.
            inputs: shape of each input that the model has for them, a text where it is open; None where the
                runtime compares these itself.

        Raises:
            BundleError: a file is damaged, or fits no input of the model.
        """
        self.files = dict(files)
        self._held = {gate: _read(path, inputs) for gate, path in files.items()}
        # Of what is held, not of this object: a circle would keep the files mapped for some time.
        self._mixed = lru_cache(MOST_MIXTURES)(partial(_mix, self._held))

    def inputs(self, gates: Gates) -> Mapping[str, Float]:
        """What the inputs are filled with.

        Args:
            gates: of a request.

        Returns:
            By input; nothing for no adapter, and for one without a factor what lies in its file.

        Raises:
            DeviceError: there is no such adapter.
        """
        self.check(gates)
        alone = self.alone(gates)
        if alone is not None:
            return self._held[alone]
        return self._mixed(gates) if any(gates) else {}

    def check(self, gates: Gates) -> None:
        """Refuses gates of adapters that are not there.

        Raises:
            DeviceError: naming the first of them.
        """
        for gate, factor in enumerate(gates):
            if factor and gate not in self._held:
                raise DeviceError(
                    f"adapter {gate + 1} of the bundle has no file beside this variant; convert the model "
                    "with its adapters again"
                )

    def summed(self, gates: Gates) -> Mapping[str, Float]:
        """The sum of adapters that are there, made anew: for who keeps it elsewhere."""
        return _mix(self._held, gates)

    def alone(self, gates: Gates) -> int | None:
        """The gate of the one adapter that is asked for as it is; None for none, several, or a factor."""
        asked = [gate for gate, factor in enumerate(gates) if factor]
        return asked[0] if len(asked) == 1 and gates[asked[0]] == 1 else None


def _mix(files: Mapping[int, Mapping[str, Float]], gates: Gates) -> Mapping[str, Float]:
    asked = [(files[gate], np.float32(factor)) for gate, factor in enumerate(gates) if factor]
    mixed: dict[str, Float] = {}
    for product in dict.fromkeys(_product(name) for held, _ in asked for name in held):
        terms = [(held, factor) for held, factor in asked if f"{product}{INNER_INPUT}" in held]
        mixed[f"{product}{INNER_INPUT}"] = np.concatenate(
            [held[f"{product}{INNER_INPUT}"] for held, _ in terms], axis=1
        )
        mixed[f"{product}{WRITTEN_INPUT}"] = np.concatenate(
            [held[f"{product}{WRITTEN_INPUT}"] * f for held, f in terms]
        )
    return mixed


def _read(path: Path, inputs: Mapping[str, Sequence[object]] | None) -> Mapping[str, Float]:
    held = read_onnx_adapter(path)
    for name, array in held.items():
        product = _product(name)
        pair = [held.get(f"{product}{end}") for end in (INNER_INPUT, WRITTEN_INPUT)]
        if pair[0] is None or pair[1] is None or pair[0].shape[1] != pair[1].shape[0]:
            raise BundleError(
                f"{path.name} has {name[:60]!r} without the other half of its term; convert again"
            )
        expected = None if inputs is None else inputs.get(name, ())
        fits = expected is None or (
            len(expected) == 2
            and all(
                not isinstance(want, int) or want == have
                for want, have in zip(expected, array.shape, strict=True)
            )
        )
        if not fits:
            raise BundleError(
                f"{path.name} has {name[:60]!r} {array.shape}, which its model has no input for; "
                "convert it again"
            )
    return held


def _product(name: str) -> str:
    return name.removesuffix(INNER_INPUT).removesuffix(WRITTEN_INPUT)
