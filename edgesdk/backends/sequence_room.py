"""What may be appended to a sequence: the checks and the messages, the same for every backend."""

from __future__ import annotations

from edgesdk.backends.protocol import GatedSequence, Int, TokenSequence
from edgesdk.bundle.adapter_record import Gates
from edgesdk.errors import CapacityError, DeviceError

SEQUENCE_CLOSED = "the sequence was closed; start another"
OTHER_ADAPTER = "the sequence holds tokens of another adapter; empty it first"


def check_room(count: int, length: int, context: int) -> None:
    """Refuses tokens that do not fit.

    Args:
        count: tokens to append.
        length: tokens that the sequence holds.
        context: most tokens that it can hold.

    Raises:
        CapacityError: there are none, or too many.
    """
    if count < 1:
        raise CapacityError("a sequence is extended by at least one token, found none")
    if length + count > context:
        raise CapacityError(
            f"{count} tokens after {length} do not fit the context of {context} tokens; "
            "shorten the prompt or convert with a larger --context"
        )


def check_tokens(tokens: Int, vocabulary: int) -> None:
    """Refuses ids that the model has no row for.

    Args:
        tokens: (n,) int32, n at least 1.
        vocabulary: V.

    Raises:
        DeviceError: one is outside.
    """
    if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary:
        raise DeviceError(f"a token is outside the vocabulary of {vocabulary}; check the tokenizer")


def use_gates(sequence: TokenSequence, gates: Gates) -> None:
    """Has an empty sequence run its tokens with gates.

    Raises:
        DeviceError: it has no adapters.
    """
    if isinstance(sequence, GatedSequence):
        sequence.use_gates(gates)
    elif gates:
        raise DeviceError("this backend runs no adapters; load the bundle with another one")
