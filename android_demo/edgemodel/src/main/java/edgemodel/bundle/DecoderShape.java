package edgemodel.bundle;

import edgemodel.EdgeModelException;
import java.util.List;

/** The shape of a decoder, as far as the host of a step needs it: every layer with cells has one of it. */
public final class DecoderShape {
  static final String[] KEYS = {"vocab_size", "head_rows", "blocks", "is_causal"};
  static final String[] UNREAD = {
    "architecture", "hidden_size", "context", "norm_eps", "embedding_scale", "residual_scale",
    "logits_scale", "pre_norms", "post_norms", "logits_softcap", "tied_head", "layer_inputs", "projection"
  };
  static final String[] BLOCK_KEYS = {"mixer"};
  static final String[] BLOCK_UNREAD = {"number", "feed_forward", "layer_input", "scaled"};
  static final String[] MIXER_KEYS = {"kv_heads", "head_size", "window", "reads"};
  static final String[] MIXER_UNREAD = {
    "heads", "scale", "rotary", "softcap", "qkv_bias", "out_bias", "qk_norm", "qk_norm_place",
    "query_growth", "v_norm"
  };

  private static final int MOST = 4096;
  private static final int MOST_TOKENS = 1 << 24;

  /** L, layers with cells. */
  public final int layers;

  /** K. */
  public final int kvHeads;

  /** D. */
  public final int headSize;

  /** V. */
  public final int vocabSize;

  /** A token of layers with a window sees itself and the `window - 1` before it; 0 for models without. */
  public final int window;

  /** Whether the head writes some tokens only. */
  public final boolean partialHead;

  public DecoderShape(int layers, int kvHeads, int headSize, int vocabSize, int window) {
    this(layers, kvHeads, headSize, vocabSize, window, false);
  }

  private DecoderShape(
      int layers, int kvHeads, int headSize, int vocabSize, int window, boolean partialHead) {
    this.layers = layers;
    this.kvHeads = kvHeads;
    this.headSize = headSize;
    this.vocabSize = vocabSize;
    this.window = window;
    this.partialHead = partialHead;
  }

  static DecoderShape read(JsonFields from) {
    from.expectKeys(KEYS, UNREAD);
    if (from.has("is_causal") && !from.bool("is_causal")) {
      throw EdgeModelException.bundle(
          "the model gives vectors only, which this library does not run; convert another model");
    }
    List<JsonFields> blocks = from.objects("blocks");
    int layers = 0;
    int heads = 0;
    int size = 0;
    int window = 0;
    for (JsonFields block : blocks) {
      block.expectKeys(BLOCK_KEYS, BLOCK_UNREAD);
      JsonFields mixer = block.optionalObject("mixer");
      if (mixer == null) {
        continue;
      }
      mixer.expectKeys(MIXER_KEYS, MIXER_UNREAD);
      int itsHeads = mixer.integer("kv_heads");
      int itsSize = mixer.integer("head_size");
      int itsWindow = mixer.has("window") ? mixer.integer("window") : 0;
      if (itsHeads < 1 || itsHeads > MOST || itsSize < 1 || itsSize > MOST || itsWindow < 0) {
        throw impossible(from);
      }
      if (mixer.has("reads") || layers > 0 && (itsHeads != heads || itsSize != size)) {
        throw EdgeModelException.bundle(
            "the decoder has heads of several sizes or layers that share cells, which this library does not"
                + " run; convert another model");
      }
      if (itsWindow != 0 && window != 0 && itsWindow != window) {
        throw EdgeModelException.bundle(
            "the decoder has windows of several sizes; the step has one window_mask");
      }
      heads = itsHeads;
      size = itsSize;
      window = Math.max(window, itsWindow);
      layers++;
    }
    int vocabulary = from.integer("vocab_size");
    if (vocabulary < 1 || vocabulary > MOST_TOKENS || layers < 1 || layers > MOST) {
      throw impossible(from);
    }
    return new DecoderShape(layers, heads, size, vocabulary, window, from.has("head_rows"));
  }

  /** Bytes of the keys and values of one token in float32. */
  public long cellBytes() {
    return 2L * layers * kvHeads * headSize * 4;
  }

  private static EdgeModelException impossible(JsonFields from) {
    return EdgeModelException.bundle(from.path() + " describes a decoder that cannot be; convert the bundle again");
  }
}
