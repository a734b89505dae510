"""A trained judge as a file: a few numbers, made for one model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgesdk.bundle.records import from_json, to_json
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import BundleError, RetrievalError, first_line

FORMAT = "edgesdk-judge"
VERSION = 1
Reads = Literal["answer", "question"]
_MOST_BYTES = 4 << 20
_MOST_FEATURES = 65_536


@dataclass(frozen=True)
class JudgeFile:
    """A logistic head: known by sigmoid(weights . (features - mean) / scale + bias).

    Attributes:
        format: what it is.
        version: of the format.
        numbers: digest of the weights of the model that it was made for.
        hidden: how many of the features are the model's hidden state, the last ones; 0 for none.
        mean: (features,) taken off.
        scale: (features,) divided by, none 0.
        weights: (features,).
        bias: one number.
        threshold: least probability to be taken for known.
        questions: how many it was trained on.
        auroc: area under the curve on questions about things that training never saw.
        reads: what it judges by: the model's own answer, or the question alone, which spares that answer.
    """

    numbers: str
    hidden: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float
    questions: int
    auroc: float
    reads: Reads = "answer"
    format: Literal["edgesdk-judge"] = "edgesdk-judge"
    version: Literal[1] = 1


def write_judge(path: Path, judge: JudgeFile) -> None:
    """Writes a judge, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(path, json.dumps(to_json(judge), indent=1) + "\n")


def read_judge(path: Path) -> JudgeFile:
    """Reads a judge.

    Raises:
        RetrievalError: it cannot be read, or is none of this version.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise RetrievalError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, so it is no judge")
        judge = from_json(JudgeFile, json.loads(data), str(path))
    except OSError as error:
        raise RetrievalError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RetrievalError(
            f"{path} is no JSON document; train a judge with: edgesdk train judge"
        ) from error
    except BundleError as error:
        raise RetrievalError(f"{path} is no judge of this version: {first_line(error)}") from error
    count = len(judge.weights)
    numbers = (*judge.mean, *judge.scale, *judge.weights, judge.bias, judge.threshold)
    if not (len(judge.mean) == len(judge.scale) == count <= _MOST_FEATURES) or not 0 <= judge.hidden <= count:
        raise RetrievalError(f"{path} has lists of different lengths; train the judge again")
    if not all(map(math.isfinite, numbers)) or 0.0 in judge.scale:
        raise RetrievalError(
            f"{path} holds numbers that are not finite or scales of 0; train the judge again"
        )
    return judge
