"""The one definition of a decoder, as a step graph (docs/architecture.md, "The step").

A step is a pure function: new tokens, their positions, masks and cached cells in; logits of the
wanted rows and the new keys and values out. What differs between architectures is in `DecoderSpec`,
block by block; there is no second definition. Names of inputs and outputs are those of the step's contract,
weight names the canonical ones of `edgesdk_converters.architectures`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from edgesdk.bundle.decoder_block import Attention, Convolution, FeedForward, LayerInputs
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.stack_record import BEFORE, STATES, picks
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import CACHE, NEW, CellName, graph_tensors
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Graph, GraphBuilder

PROJECTION = "projection"
"""The matrix behind the last norm of a decoder that gives states only."""


def build_decoder(spec: DecoderSpec) -> Graph:
    """Builds the step graph of a decoder.

    Returns:
        A graph with inputs `tokens` (T,), `positions` (T,), `mask` (T, S+T), `window_mask` (T, S+T)
        when a layer has a sliding window, `rows` (R,), and keys and values (K, S, D) of every layer with
        cells of its own; outputs `logits` (R, V), and new keys and values (K, T, D) of the same layers. With
        convolutions also `before` and `picks_j`, and what each keeps of the new tokens (1, T, E). Where
        tokens see the whole text masks are (T, T), there are neither rows nor cells, and the output is
        `states` (T, W).
    """
    return _DecoderBuilder(spec).build()


class _DecoderBuilder:
    def __init__(self, spec: DecoderSpec) -> None:
        self.spec = spec
        self.g = GraphBuilder()

    def build(self) -> Graph:
        spec, g = self.spec, self.g
        tensors = graph_tensors(step_contract(spec))
        for port in tensors.ports_in:
            g.input(port.name, port.port.dims, "int32" if port.dtype == "int32" else "float32")
        for cells in tensors.cells:
            g.input(cells.name, cells.dims)

        table = g.weight("embed", (spec.vocab_size, spec.hidden_size))
        (x,) = g.add(ops.Embed(), ["tokens", table], "embedded")
        x = self._scale(x, spec.embedding_scale, "embedded.scaled")
        own = () if spec.layer_inputs is None else self._layer_inputs(x, spec.layer_inputs)
        cell_layers = iter(spec.cell_layers)
        places = itertools.count()
        for block in spec.blocks:
            at = f"layers.{block.number}"
            if isinstance(block.mixer, Convolution):
                x = self._residual(x, self._convolution(x, at, block.mixer, next(places)), f"{at}.attn")
            elif block.mixer is not None:
                x = self._residual(x, self._attention(x, at, block.mixer, next(cell_layers)), f"{at}.attn")
            if block.feed_forward is not None:
                x = self._residual(x, self._feed_forward(x, at, block.feed_forward), f"{at}.mlp")
            if block.layer_input and spec.layer_inputs is not None:
                y = self._layer_input(x, own[block.number], at, spec.layer_inputs)
                x = self._residual(x, y, f"{at}.input")
            if block.scaled:
                factors = g.weight(f"{at}.scale", (spec.hidden_size,))
                (x,) = g.add(ops.ScaleColumns(), [x, factors], f"{at}.out")
        if spec.is_causal:
            self._head(x, table)
        else:
            self._states(x)
        return g.build([*(port.name for port in tensors.ports_out), *(new.name for new in tensors.new)])

    def _head(self, x: str, table: str) -> None:
        spec, g = self.spec, self.g
        (x,) = g.add(ops.TakeRows(), [x, "rows"], "last")
        x = self._norm(x, "final_norm", spec.hidden_size)
        head = table if spec.tied_head else g.weight("head", (spec.logits_size, spec.hidden_size))
        scaled = spec.logits_scale != 1.0 or spec.logits_softcap is not None
        (x,) = g.add(ops.Linear(), [x, head], "logits.raw" if scaled else "logits")
        if scaled:
            last = spec.logits_softcap is None
            x = self._scale(x, spec.logits_scale, "logits" if last else "logits.scaled")
            if spec.logits_softcap is not None:
                g.add(ops.Softcap(spec.logits_softcap), [x], "logits")

    def _states(self, x: str) -> None:
        spec, g, E = self.spec, self.g, self.spec.hidden_size
        if spec.projection is None:
            g.add(ops.RmsNorm(spec.norm_eps), [x, g.weight("final_norm", (E,))], STATES)
            return
        x = self._norm(x, "final_norm", E)
        g.add(ops.Linear(), [x, g.weight(PROJECTION, (spec.projection, E))], STATES)

    def _attention(self, x: str, at: str, mixer: Attention, layer: int) -> str:
        """Attention over the cells of a layer: its own, which it gives new keys and values, or another's."""
        g, E = self.g, self.spec.hidden_size
        H, K, D = mixer.heads, mixer.kv_heads, mixer.head_size
        if self.spec.pre_norms:
            x = self._norm(x, f"{at}.attn_norm", E)
        parts = {"q": H, "k": K, "v": K} if mixer.reads is None else {"q": H}
        for part, count in parts.items():
            y = self._linear(x, f"{at}.{part}", count * D, E, mixer.qkv_bias)
            normed = mixer.qk_norm_place if part != "v" and mixer.qk_norm else None
            if normed == "whole":
                y = self._norm(y, f"{at}.{part}_norm", count * D)
            (y,) = g.add(ops.SplitHeads(count), [y], f"{at}.{part}.heads")
            if normed == "heads":
                y = self._norm(y, f"{at}.{part}_norm", D)
            if part == "v" and mixer.v_norm:
                (y,) = g.add(ops.RmsNorm(self.spec.norm_eps), [y], f"{at}.v.normed")
            if part != "v" and mixer.rotary is not None:
                rotary = replace(mixer.rotary, growth=mixer.query_growth if part == "q" else 0.0)
                (y,) = g.add(ops.Rotate(rotary), [y, "positions"], f"{at}.{part}.rotated")
            if normed == "rotated":
                y = self._norm(y, f"{at}.{part}_norm", D)
            if part == "q":
                query = y
            else:
                g.add(ops.HeadsFirst(), [y], str(CellName(part, NEW, layer)))
        new, cache = ([str(CellName(side, kind, layer)) for side in "kv"] for kind in (NEW, CACHE))
        cells = cache if self.spec.is_causal else []
        attend = ops.Attend(mixer.scale, mixer.softcap, layer, mixer.window)
        mask = "mask" if mixer.window is None else "window_mask"
        (y,) = g.add(attend, [query, *new, mask, *cells], f"{at}.attended")
        (y,) = g.add(ops.MergeHeads(), [y], f"{at}.merged")
        return self._linear(y, f"{at}.o", E, H * D, mixer.out_bias)

    def _convolution(self, x: str, at: str, mixer: Convolution, place: int) -> str:
        """A gated convolution over what it keeps of the last tokens: of the new ones, it is an output."""
        g, E, k = self.g, self.spec.hidden_size, mixer.kernel
        if self.spec.pre_norms:
            x = self._norm(x, f"{at}.attn_norm", E)
        y = self._linear(x, f"{at}.conv_in", 3 * E, E, False)
        gate, scale, value = g.add(ops.Split((E, E, E)), [y], *(f"{at}.conv.{part}" for part in "bcx"))
        (kept,) = g.add(ops.Multiply(), [gate, value], f"{at}.conv.kept")
        (row,) = g.add(ops.SplitHeads(1), [kept], f"{at}.conv.kept.row")
        g.add(ops.HeadsFirst(), [row], str(CellName("x", NEW, place)))
        taps = [g.weight(f"{at}.taps.{j}", (E,)) for j in range(k)]
        (y,) = g.add(ops.Convolve(k, place), [kept, BEFORE, *picks(k - 1), *taps], f"{at}.convolved")
        (y,) = g.add(ops.Multiply(), [scale, y], f"{at}.conv.gated")
        return self._linear(y, f"{at}.conv_out", E, E, False)

    def _feed_forward(self, x: str, at: str, ffn: FeedForward) -> str:
        g, E = self.g, self.spec.hidden_size
        if self.spec.pre_norms:
            x = self._norm(x, f"{at}.mlp_norm", E)
        gate = self._linear(x, f"{at}.gate", ffn.size, E, ffn.bias)
        up = self._linear(x, f"{at}.up", ffn.size, E, ffn.bias)
        (gate,) = g.add(ops.Activate(ffn.activation), [gate], f"{at}.activated")
        (y,) = g.add(ops.Multiply(), [gate, up], f"{at}.gated")
        return self._linear(y, f"{at}.down", E, ffn.size, ffn.bias)

    def _layer_inputs(self, x: str, inputs: LayerInputs) -> tuple[str, ...]:
        """What each layer has of a token: (T, size) each."""
        g, spec, L, P = self.g, self.spec, inputs.layers, inputs.size
        table = g.weight("layer_inputs.embed", (spec.vocab_size, L * P))
        (own,) = g.add(ops.Embed(), ["tokens", table], "layer_inputs.embedded")
        own = self._scale(own, math.sqrt(P / 2), "layer_inputs.embedded.scaled")
        y = self._linear(x, "layer_inputs.project", L * P, spec.hidden_size, False)
        y = self._scale(y, spec.hidden_size**-0.5, "layer_inputs.projected")
        (y,) = g.add(ops.SplitHeads(L), [y], "layer_inputs.layers")
        y = self._norm(y, "layer_inputs.norm", P)
        (y,) = g.add(ops.MergeHeads(), [y], "layer_inputs.merged")
        y = self._scale(y, math.sqrt(0.5), "layer_inputs.merged.scaled")
        (y,) = g.add(ops.Add(), [y, own], "layer_inputs.sum")
        if L == 1:
            return (y,)
        return g.add(ops.Split((P,) * L), [y], *(f"layer_inputs.{layer}" for layer in range(L)))

    def _layer_input(self, x: str, own: str, at: str, inputs: LayerInputs) -> str:
        g, E, P = self.g, self.spec.hidden_size, inputs.size
        gate = self._linear(x, f"{at}.input_gate", P, E, False)
        (gate,) = g.add(ops.Activate(inputs.activation), [gate], f"{at}.input.activated")
        (y,) = g.add(ops.Multiply(), [gate, own], f"{at}.input.gated")
        return self._linear(y, f"{at}.input_out", E, P, False)

    def _residual(self, x: str, y: str, at: str) -> str:
        if self.spec.post_norms:
            y = self._norm(y, f"{at}_post_norm", self.spec.hidden_size)
        y = self._scale(y, self.spec.residual_scale, f"{at}.scaled")
        return self.g.add(ops.Add(), [x, y], f"{at}.sum")[0]

    def _norm(self, x: str, weight: str, size: int) -> str:
        name = self.g.weight(weight, (size,))
        return self.g.add(ops.RmsNorm(self.spec.norm_eps), [x, name], f"{weight}.out")[0]

    def _linear(self, x: str, weight: str, out: int, into: int, bias: bool) -> str:
        inputs = [x, self.g.weight(weight, (out, into))]
        if bias:
            inputs.append(self.g.weight(f"{weight}.bias", (out,)))
        return self.g.add(ops.Linear(), inputs, f"{weight}.out")[0]

    def _scale(self, x: str, factor: float, name: str) -> str:
        return x if factor == 1.0 else self.g.add(ops.Scale(factor), [x], name)[0]
