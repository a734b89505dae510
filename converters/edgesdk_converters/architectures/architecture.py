"""What an architecture is: a configuration reader and a weight-name map per naming convention.

An architecture is data about names and settings. It never describes computation: the one decoder is in
`graph.decoder`, and these are the canonical weight names it uses (E hidden, F feed-forward,
H heads, K KV heads, D head size, V vocabulary):

    embed (V, E)                      final_norm (E)               head (V, E), absent when tied
    layers.{i}.attn_norm (E)          layers.{i}.q (H*D, E)        layers.{i}.k, .v (K*D, E)
    layers.{i}.q_norm, .k_norm (D)    layers.{i}.o (E, H*D)        layers.{i}.attn_post_norm (E)
    layers.{i}.mlp_norm (E)           layers.{i}.gate, .up (F, E)  layers.{i}.down (E, F)
    layers.{i}.mlp_post_norm (E)      layers.{i}.q.bias, ... for every projection that has a bias
    layers.{i}.scale (E)              layers.{i}.input_gate (P, E)
    layers.{i}.input_out (E, P)       layers.{i}.input_post_norm (E)
    layers.{i}.conv_in (3*E, E)       layers.{i}.conv_out (E, E)   layers.{i}.taps.{j} (E)
    layer_inputs.embed (V, L*P)       layer_inputs.project (L*P, E)       layer_inputs.norm (P)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgesdk.bundle.decoder_block import Block
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.combine import Combine
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.checkpoints.checkpoint import Dialect

CombineOf = Callable[[Block], Combine]
"""For weights of a block whose rows depend on its sizes."""
When = Callable[[DecoderSpec], bool]


def always(spec: DecoderSpec) -> bool:
    """For tensors that no decoder reads."""
    return True


@dataclass(frozen=True)
class WeightNames:
    """Where each canonical weight is in files of one naming convention; `{i}` is the layer.

    Attributes:
        tensors: canonical name -> stored name.
        combine: canonical name -> how its rows come out of the stored tensor; a copy where absent.
        unused: pattern (as in `fnmatch`) of tensors that are knowingly not read -> for which decoders.
    """

    tensors: Mapping[str, str]
    combine: Mapping[str, Combine | CombineOf] = field(default_factory=dict)
    unused: Mapping[str, When] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """One entry of the architecture table.

    Attributes:
        name: what `DecoderSpec.architecture` says.
        model_types: values of `model_type` that mean it.
        read: configuration -> decoder; takes every key it knows from the reader.
        names: weight names by naming convention.
        irrelevant: configuration keys that cannot change the decoder of this architecture.
    """

    name: str
    model_types: tuple[str, ...]
    read: Callable[[ConfigReader], DecoderSpec]
    names: Mapping[Dialect, WeightNames]
    irrelevant: frozenset[str] = frozenset()
