"""Opens what a plan says as one backend: split by phase, with successors for what may fail, and movers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesdk.backends.protocol import SequenceBackend, StepBackend
from edgesdk.bundle.reader import Bundle
from edgesdk.devices.governor import Governor
from edgesdk.devices.receipt import Runner
from edgesdk.dispatch.candidates import Candidate
from edgesdk.dispatch.failover_sequences import FailoverModel, ModelOpener
from edgesdk.dispatch.failover_steps import FailoverStepBackend, StepOpener
from edgesdk.dispatch.governed import GovernedMover, OpenWith
from edgesdk.dispatch.mover import M, Mover
from edgesdk.dispatch.open_candidate import OpenedCandidate, open_candidate
from edgesdk.dispatch.plan import may_take_over
from edgesdk.dispatch.serve_meanwhile import MeanwhileMover
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

    model: SequenceBackend
    prefill: OpenedCandidate
    decode: OpenedCandidate


@dataclass(frozen=True)
class Moves:
    """What may change what runs although nothing has failed.

    Attributes:
        better: opened meanwhile, in order; the first that opens takes over.
        governor: limits threads or device; None for no limits.
        others: that the governor may move to; those with other weights are left out.
        falls_back: whether what was moved away from takes over again where its successor fails.
    """

    better: tuple[Candidate, ...] = ()
    governor: Governor | None = None
    others: tuple[Candidate, ...] = ()
    falls_back: bool = True


NO_MOVES = Moves()


def join_candidates(
    bundle: Bundle,
    prefill: Candidate,
    decode: Candidate,
    threads: int,
    successors: Sequence[Candidate] = (),
    moves: Moves = NO_MOVES,
) -> Joined:
    """Opens one candidate, or two for the two phases.

    Args:
        bundle: their bundle.
        prefill: runs prompts.
        decode: runs the rest.
        threads: CPU threads.
        successors: that may take over when one fails; those with other weights are left out.
        moves: what may change what runs although nothing has failed.

    Raises:
        BundleError, DeviceError, MissingExtra: as `open_candidate`, or the two cannot share cells.
    """
    second = open_candidate(bundle, decode, threads)
    first = second if prefill is decode else _open_beside(second, bundle, prefill, threads)
    spec = bundle.manifest.decoder_of(decode.variant)
    steps = second.step_backend
    # What has no steps cannot go on from cells, so then tokens are what is kept.
    if steps is None or any(not candidate.variant.steps for candidate in moves.better):
        model = second.opened.model
        if not isinstance(model, SequenceBackend):
            model = StepModel(model, spec, decode.variant.context)
        guarded_model = _guard_model(bundle, second, model, successors, threads, moves)
        return Joined(guarded_model, first, second)
    guarded = _guard(bundle, second, steps, successors, threads, moves, tells_context=True)
    if first is not second:
        others = first.step_backend
        if others is None:
            raise DeviceError(
                f"{prefill.backend.name} keeps its cache to itself, so it cannot run one phase only"
            )
        prefills = _guard(bundle, first, others, successors, threads, moves, tells_context=False)
        guarded = SplitStepBackend(prefills, guarded)
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
    bundle: Bundle,
    found: OpenedCandidate,
    steps: StepBackend,
    successors: Sequence[Candidate],
    threads: int,
    moves: Moves,
    *,
    tells_context: bool,
) -> StepBackend:
    """Puts those behind a step backend that can go on from its cells."""
    mine = found.candidate
    able = [candidate for candidate in _able(mine, successors, moves) if candidate.variant.steps]

    def opener(candidate: Candidate, threads: int) -> StepOpener:
        return _opener(bundle, candidate, threads)

    others = [candidate for candidate in moves.others if candidate.variant.steps]
    movers = _movers(mine, others, moves, threads, opener, tells_context=tells_context)
    if not able and not movers:
        return steps
    waiting = [(Runner(*candidate.key, ""), opener(candidate, threads)) for candidate in able]
    reopen = opener(mine, threads) if moves.falls_back else None
    return FailoverStepBackend(steps, runner_of(found), waiting, movers=movers, reopen=reopen)


def _guard_model(
    bundle: Bundle,
    found: OpenedCandidate,
    model: SequenceBackend,
    successors: Sequence[Candidate],
    threads: int,
    moves: Moves,
) -> SequenceBackend:
    """Puts those behind a model that can run its tokens again."""
    mine = found.candidate
    able = _able(mine, successors, moves)

    def opener(candidate: Candidate, threads: int) -> ModelOpener:
        return _model_opener(bundle, candidate, threads)

    movers = _movers(mine, moves.others, moves, threads, opener, tells_context=True)
    if not able and not movers:
        return model
    spec = bundle.manifest.decoder_of(mine.variant)
    waiting = [(Runner(*candidate.key, ""), opener(candidate, threads)) for candidate in able]
    reopen = opener(mine, threads) if moves.falls_back else None
    return FailoverModel(model, runner_of(found), waiting, spec.vocab_size, movers=movers, reopen=reopen)


def _able(mine: Candidate, successors: Sequence[Candidate], moves: Moves) -> list[Candidate]:
    """Those that may take over from a candidate, but not what is being opened already."""
    waiting = {candidate.key for candidate in moves.better}
    return [c for c in successors if may_take_over(c, mine) and c.key not in waiting]


def _movers(
    mine: Candidate,
    others: Sequence[Candidate],
    moves: Moves,
    threads: int,
    opener: OpenWith[M],
    *,
    tells_context: bool,
) -> list[Mover[M]]:
    movers: list[Mover[M]] = []
    better = [candidate for candidate in moves.better if may_take_over(candidate, mine)]
    if better:
        waiting = [(Runner(*candidate.key, ""), opener(candidate, threads)) for candidate in better]
        movers.append(MeanwhileMover(waiting, threads))
    if moves.governor is not None:
        reachable = [mine, *better, *(candidate for candidate in others if may_take_over(candidate, mine))]
        context = mine.variant.context if tells_context else None
        movers.append(GovernedMover(moves.governor, reachable, threads, opener, context))
    return movers


def _opener(bundle: Bundle, candidate: Candidate, threads: int) -> StepOpener:
    def open_successor() -> tuple[Runner, StepBackend]:
        found = open_candidate(bundle, candidate, threads)
        steps = found.step_backend
        if steps is None:
            found.opened.model.close()
            raise DeviceError("it keeps its cache to itself")
        return runner_of(found), steps

    return open_successor


def _model_opener(bundle: Bundle, candidate: Candidate, threads: int) -> ModelOpener:
    def open_successor() -> tuple[Runner, SequenceBackend]:
        joined = join_candidates(bundle, candidate, candidate, threads)
        return runner_of(joined.decode), joined.model

    return open_successor
