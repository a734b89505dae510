"""GPTQ for a table that is looked up first and multiplied with last: an embedding tied to its head.

Calibration quantises a matrix where it is reached, for the inputs that arrive there. A tied table is
needed before any input is known, so the head's inputs come from a run of their own, of the model as it
is. The loss is the head's plus a share for the rows as they are looked up, which all inputs weigh alike:

    tr((Q - W) (H / mean(diag H) + D) (Q - W)')

D is a small diagonal, but for columns that the head never reads because they were separated as outliers:
only look-ups read those, and they are the large ones.

It knows matrices and runs, not recipes' names or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.graph.evaluate import Array
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.gptq import Quantised, gptq
from edgesdk_converters.quantise.gram_factor import gram_matrix, mean_diagonal
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.token_runs import TokenRuns

LOOKUP_SHARE = 0.1
"""Of the mean diagonal. SmolLM2-135M's table in blocks of 32, development text: KL 0.033 with 0.01 and
0.034 with 0.3, against 0.149 rounded; almost all of it is the head's."""

UNREACHED_SHARE = 10.0
"""The same for columns that no input of the head reaches. With 0.1, looking rows up cost KL 0.038 by
itself; with 3 to 20, 0.014, as without separated columns."""

_TEXTS = 8
"""The head's inputs differ less between texts than those of layers within."""

_SWEEPS = 1  # a table has as many rows as twenty layers together


def head_grams(
    program: Program, tables: Sequence[str], sequences: Sequence[NDArray[np.int32]]
) -> dict[str, Array]:
    """Gram matrices of what is multiplied with each table, in the model as it is.

    Args:
        program: with the weights that the tables will be fitted to.
        tables: names of weights that linear layers read.
        sequences: token ids; some of them are run.

    Returns:
        (I, I) by table.
    """
    missing = set(tables)
    grams: dict[str, Array] = {}
    runs = TokenRuns(program, sequences[:_TEXTS])
    for node in program.graph.nodes:
        if isinstance(node.op, Linear) and node.inputs[1] in missing:
            missing.remove(node.inputs[1])
            grams[node.inputs[1]] = gram_matrix(runs.values(node.inputs[0]))
        if not missing:
            break
        runs.step(node, {n: program.weights.load(n) for n in node.inputs if runs.is_weight(n)})
    return grams


def gptq_table(table: Array, gram: Array, scheme: Scheme) -> Quantised:
    """Quantises a tied table.

    Args:
        table: (V, E) float32.
        gram: (E, E) of the head's inputs.
        scheme: bits and block.
    """
    shares = np.where(np.diag(gram) > 0, LOOKUP_SHARE, UNREACHED_SHARE)
    both = gram.copy()
    both[np.diag_indices_from(both)] += (shares * mean_diagonal(gram)).astype(np.float32)
    return gptq(table, both, scheme, sweeps=_SWEEPS)
