"""Ranking and skipping on SmolLM2-135M."""

import numpy as np
import pytest

from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.layers.rank_layers import RankOptions, rank_layers
from edgesdk_converters.layers.trial import text_losses
from edgesdk_converters.transforms.skip_layers import skip_layers

TEXT = (
    "The lighthouse stands on a rock at the end of the bay. Every evening the keeper climbs the stairs, "
    "lights the lamp and writes the weather into a book. In winter, when the ferry does not run, he has "
    "nobody to talk to, and he reads the letters that came in autumn once again. "
) * 2


@pytest.fixture(scope="module")
def program(smollm2_gguf):
    checkpoint = open_checkpoint(str(smollm2_gguf))
    spec = read_spec(checkpoint.config)
    return Program(spec, build_decoder(spec), ResidentWeights(weights_for(checkpoint, spec)))


@pytest.fixture(scope="module")
def tokens(smollm2_gguf):
    from tokenizers import Tokenizer

    engine = Tokenizer.from_str(open_checkpoint(str(smollm2_gguf)).tokenizer.tokenizer_json)
    return np.array(engine.encode(TEXT).ids, np.int32)


@pytest.mark.real
def test_the_least_influential_block_costs_less_than_the_most(program, tokens):
    ranking = rank_layers(program, [tokens], RankOptions("influence", 29))
    cheapest = skip_layers(program, ranking.request(1))
    dearest = skip_layers(program, ranking.request(29))
    lost = [text_losses(p, [tokens]).mean() - ranking.loss for p in (cheapest, dearest)]
    assert lost[0] < 0.5
    assert lost[1] > 2
    assert len(cheapest.spec.layers) == 29
