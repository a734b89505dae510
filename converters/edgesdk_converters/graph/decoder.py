"""The one definition of a decoder, as a step graph (docs/architecture.md, "The step").

A step is a pure function: new tokens, their positions, masks and cached cells in; logits of the
wanted rows and the new keys and values out. What differs between architectures is in `DecoderSpec`;
there is no second definition. Weight names are the canonical ones of `edgesdk_converters.architectures`.
"""

from __future__ import annotations

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.graph import Graph, GraphBuilder


def build_decoder(spec: DecoderSpec) -> Graph:
    """Builds the step graph of a decoder.

    Returns:
        A graph with inputs `tokens` (T,), `positions` (T,), `mask` (T, S+T), `window_mask` (T, S+T)
        when a layer has a sliding window, `rows` (R,), and `k_cache.l`, `v_cache.l` (K, S, D) per
        layer l; outputs `logits` (R, V), and `k_new.l`, `v_new.l` (K, T, D) per layer.
    """
    return _DecoderBuilder(spec).build()


class _DecoderBuilder:
    def __init__(self, spec: DecoderSpec) -> None:
        self.spec = spec
        self.g = GraphBuilder()

    def build(self) -> Graph:
        spec, g = self.spec, self.g
        g.input("tokens", ("T",), "int32")
        g.input("positions", ("T",), "int32")
        g.input("mask", ("T", "S+T"))
        if spec.window is not None:
            g.input("window_mask", ("T", "S+T"))
        g.input("rows", ("R",), "int32")
        for layer in range(len(spec.layers)):
            for kind in "kv":
                g.input(f"{kind}_cache.{layer}", (spec.kv_heads, "S", spec.head_size))

        table = g.weight("embed", (spec.vocab_size, spec.hidden_size))
        (x,) = g.add(ops.Embed(), ["tokens", table], "embedded")
        x = self._scale(x, spec.embedding_scale, "embedded.scaled")
        cells = iter(range(len(spec.layers)))
        for half in spec.halves:
            if half.kind == "attention":
                x = self._residual(x, self._attention(x, half.layer, next(cells)), half.layer, "attn")
            else:
                x = self._residual(x, self._feed_forward(x, half.layer), half.layer, "mlp")
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
        new = [f"{kind}_new.{layer}" for layer in range(len(spec.layers)) for kind in "kv"]
        return g.build(["logits", *new])

    def _attention(self, x: str, number: int, layer: int) -> str:
        """Block `number` of the checkpoint, whose cells are those of `layer`."""
        spec, g = self.spec, self.g
        at = f"layers.{number}"
        H, K, D = spec.heads, spec.kv_heads, spec.head_size
        x = self._norm(x, f"{at}.attn_norm", spec.hidden_size)
        heads: dict[str, str] = {}
        for part, count in (("q", H), ("k", K), ("v", K)):
            y = self._linear(x, f"{at}.{part}", count * D, spec.hidden_size, spec.qkv_bias)
            (y,) = g.add(ops.SplitHeads(count), [y], f"{at}.{part}.heads")
            if part != "v" and spec.qk_norm:
                y = self._norm(y, f"{at}.{part}_norm", D)
            rotary = spec.layers[layer].rotary
            if part != "v" and rotary is not None:
                (y,) = g.add(ops.Rotate(rotary), [y, "positions"], f"{at}.{part}.rotated")
            if part != "q":
                (y,) = g.add(ops.HeadsFirst(), [y], f"{part}_new.{layer}")
            heads[part] = y
        window = spec.layers[layer].window
        mask = "mask" if window is None else "window_mask"
        attend = ops.Attend(spec.attention_scale, spec.attention_softcap, layer, window)
        cache = [f"k_cache.{layer}", f"v_cache.{layer}"]
        (y,) = g.add(attend, [heads["q"], heads["k"], heads["v"], mask, *cache], f"{at}.attended")
        (y,) = g.add(ops.MergeHeads(), [y], f"{at}.merged")
        return self._linear(y, f"{at}.o", spec.hidden_size, H * D, spec.out_bias)

    def _feed_forward(self, x: str, layer: int) -> str:
        spec, g = self.spec, self.g
        at = f"layers.{layer}"
        E, F, bias = spec.hidden_size, spec.ffn_size, spec.ffn_bias
        x = self._norm(x, f"{at}.mlp_norm", E)
        gate = self._linear(x, f"{at}.gate", F, E, bias)
        up = self._linear(x, f"{at}.up", F, E, bias)
        (gate,) = g.add(ops.Activate(spec.activation), [gate], f"{at}.activated")
        (y,) = g.add(ops.Multiply(), [gate, up], f"{at}.gated")
        return self._linear(y, f"{at}.down", E, F, bias)

    def _residual(self, x: str, y: str, layer: int, block: str) -> str:
        at = f"layers.{layer}.{block}"
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
