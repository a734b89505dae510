"""What opening a variant gives, and the request for it: the same two records for every backend."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from edgesdk.backends.protocol import SequenceBackend, StepBackend
from edgesdk.bundle.integrity import Integrity
from edgesdk.bundle.manifest import DeviceClass, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import DeviceError


@dataclass(frozen=True)
class OpenRequest:
    """What to open.

    Attributes:
        bundle: the bundle.
        variant: one of its variants, in a format that the backend takes.
        threads: CPU threads.
        device: class of devices to run on, one of the backend's own; it opens there or raises.
        integrity: the comparison of the variant's files with their digests, where it may still be under way;
            None where it is over.
    """

    bundle: Bundle
    variant: Variant
    threads: int
    device: DeviceClass = "cpu"
    integrity: Future[Integrity] | None = field(default=None, compare=False, repr=False)

    @property
    def compared(self) -> bool:
        """Whether that comparison is over, however it ended."""
        return self.integrity is None or self.integrity.done()

    def expect_whole(self) -> None:
        """Waits until the files have been compared with their digests.

        Raises:
            BundleError: one is damaged.
        """
        if self.integrity is not None:
            self.integrity.result()

    def __post_init__(self) -> None:
        """Refuses a variant of sizes that has none.

        Raises:
            DeviceError: the manifest names no step sizes, which every format but onnx-resident needs.
        """
        if not self.variant.steps and self.variant.format != "onnx-resident":
            raise DeviceError(f"variant {self.variant.name!r} has no step sizes; convert the bundle again")


@dataclass(frozen=True)
class Opened:
    """An opened variant, with what the receipt says of it.

    Attributes:
        model: runs steps, or keeps a cache of its own.
        provider: delegate or execution provider.
        accelerated_share: share of operations on it; None when the backend cannot tell.
        weight_cache: `hit`, `built`, or None.
        notes: anything the user should know, one line each.
    """

    model: StepBackend | SequenceBackend
    provider: str
    accelerated_share: float | None = None
    weight_cache: str | None = None
    notes: tuple[str, ...] = ()


def require_float_cells(variant: Variant, backend: str) -> None:
    """Refuses a variant that caches in another type, for backends whose graphs have no such cells.

    Raises:
        DeviceError: it does.
    """
    if variant.cell_type != "float32":
        raise DeviceError(
            f"{backend} has no {variant.cell_type} cells, which variant {variant.name!r} needs; "
            "use a litert backend, or convert with --cells float32"
        )
