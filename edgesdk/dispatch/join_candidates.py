"""Opens what a plan says as one backend: split by phase, and with successors for what may fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.protocol import LoadedBackend, StepBackend
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.failover_sequences import FailoverModel, ModelOpener
from edgesdk.dispatch.failover_steps import FailoverStepBackend, Opener
from edgesdk.dispatch.open_candidate import OpenedCandidate, open_candidate
from edgesdk.dispatch.plan import same_results
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.errors import DeviceError
from edgesdk.kv.step_model import StepModel


@dataclass(frozen=True)
class Joined:
    """What runs a model.

    Attributes:
        model: makes sequences.
        prefill: what runs prompts.
        decode: what runs the rest; the same object unless the phases are split.
    """

    model: LoadedBackend
    prefill: OpenedCandidate
    decode: OpenedCandidate


def join_candidates(
    bundle: Bundle,
    prefill: Candidate,
    decode: Candidate,
    threads: int,
    successors: Sequence[Candidate] = (),
) -> Joined:
    """Opens one candidate, or two for the two phases.

    Args:
        bundle: their bundle.
        prefill: runs prompts.
        decode: runs the rest.
        threads: CPU threads.
        successors: that may take over when one fails; those with other weights are left out.

    Raises:
        BundleError, DeviceError, MissingExtra: as `open_candidate`, or the two cannot share cells.
    """
    second = open_candidate(bundle, decode, threads)
    first = second if prefill is decode else _open_beside(second, bundle, prefill, threads)
    steps = second.step_backend
    if steps is None:
        model = second.opened.model
        if not isinstance(model, LoadedBackend):
            raise DeviceError(f"{decode.backend.name} opened neither steps nor a model")
        return Joined(_guard_model(bundle, second, model, successors, threads), first, second)
    guarded = _guard(bundle, second, steps, successors, threads)
    if first is not second:
        others = first.step_backend
        if others is None:
            raise DeviceError(
                f"{prefill.backend.name} keeps its cache to itself, so it cannot run one phase only"
            )
        guarded = SplitStepBackend(_guard(bundle, first, others, successors, threads), guarded)
    spec = bundle.manifest.decoder_of(decode.variant)
    context = min(prefill.variant.context, decode.variant.context)
    return Joined(StepModel(guarded, spec, context), first, second)


def runner_of(found: OpenedCandidate) -> Runner:
    """Its names, for receipts."""
    variant, backend, device = found.candidate.key
    return Runner(variant, backend, device, found.opened.provider)


def _open_beside(
    second: OpenedCandidate, bundle: Bundle, prefill: Candidate, threads: int
) -> OpenedCandidate:
    """Opens the other phase; closes the one that is open if that fails."""
    try:
        return open_candidate(bundle, prefill, threads)
    except BaseException:
        second.opened.model.close()
        raise


def _guard(
    bundle: Bundle, found: OpenedCandidate, steps: StepBackend, successors: Sequence[Candidate], threads: int
) -> StepBackend:
    """Puts those behind a step backend that can go on from its cells."""
    able = [candidate for candidate in _able(found, successors) if candidate.variant.steps]
    if not able:
        return steps
    spec = bundle.manifest.decoder_of(found.candidate.variant)
    waiting = [(Runner(*candidate.key, ""), _opener(bundle, candidate, threads)) for candidate in able]
    return FailoverStepBackend(steps, runner_of(found), waiting, spec)


def _guard_model(
    bundle: Bundle,
    found: OpenedCandidate,
    model: LoadedBackend,
    successors: Sequence[Candidate],
    threads: int,
) -> LoadedBackend:
    """Puts those behind a model that can run its tokens again."""
    able = _able(found, successors)
    if not able:
        return model
    spec = bundle.manifest.decoder_of(found.candidate.variant)
    waiting = [(Runner(*candidate.key, ""), _model_opener(bundle, candidate, threads)) for candidate in able]
    return FailoverModel(model, runner_of(found), waiting, spec.vocab_size)


def _able(found: OpenedCandidate, successors: Sequence[Candidate]) -> list[Candidate]:
    """Those that may take over from a candidate: same weights, no smaller context."""
    mine = found.candidate
    return [
        candidate
        for candidate in successors
        if candidate.key != mine.key
        and candidate.refusal is None
        and same_results(candidate.variant, mine.variant)
        and candidate.variant.context >= mine.variant.context
    ]


def _opener(bundle: Bundle, candidate: Candidate, threads: int) -> Opener:
    def open_successor() -> tuple[Runner, StepBackend]:
        found = open_candidate(bundle, candidate, threads)
        steps = found.step_backend
        if steps is None:
            found.opened.model.close()
            raise DeviceError("it keeps its cache to itself")
        return runner_of(found), steps

    return open_successor


def _model_opener(bundle: Bundle, candidate: Candidate, threads: int) -> ModelOpener:
    def open_successor() -> tuple[Runner, LoadedBackend]:
        joined = join_candidates(bundle, candidate, candidate, threads)
        return runner_of(joined.decode), joined.model

    return open_successor
