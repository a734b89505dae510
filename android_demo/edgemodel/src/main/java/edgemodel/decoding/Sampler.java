package edgemodel.decoding;

import edgemodel.EdgeModelException;
import java.util.BitSet;
import java.util.Random;

/**
 * Chooses the tokens of one sequence from logits, as edgesdk/decoding/sampling.py does: repetition penalty
 * (CTRL, section 4.1), temperature, top-k, top-p, min-p, then a draw.
 */
public final class Sampler {
  private final SamplingOptions options;
  private final Candidates candidates = new Candidates();
  private final BitSet seen = new BitSet();
  private final SplitMix64 random;

  public Sampler(SamplingOptions options) {
    this.options = options;
    random = new SplitMix64(options.seed == null ? new Random().nextLong() : options.seed.longValue());
  }

  /** Adds a token of the prompt to the history that the repetition penalty looks at. */
  public void observe(int token) {
    if (options.repetitionPenalty != 1) {
      seen.set(token);
    }
  }

  /**
   * The next token; it is added to the history.
   *
   * @param logits (V,), which this may change.
   * @throws EdgeModelException kind DEVICE: they are not numbers.
   */
  public int choose(float[] logits) {
    float penalty = options.repetitionPenalty;
    if (penalty != 1) {
      for (int token = seen.nextSetBit(0); token >= 0; token = seen.nextSetBit(token + 1)) {
        if (token < logits.length) {
          logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
        }
      }
    }
    int best = mostLikely(logits);
    int token = options.temperature == 0 ? best : filtered(logits).draw(random.nextUnit());
    observe(token);
    return token;
  }

  /** The candidates that the filters leave. */
  Candidates filtered(float[] logits) {
    candidates.start(logits, options.temperature);
    if (options.topK > 0) {
      candidates.keepTopK(options.topK);
    }
    if (options.topP < 1) {
      candidates.keepTopP(options.topP);
    }
    if (options.minP > 0) {
      candidates.keepMinP(options.minP);
    }
    return candidates;
  }

  /** The lowest id among equals. */
  private static int mostLikely(float[] logits) {
    int best = 0;
    boolean numbers = logits.length > 0;
    for (int i = 0; i < logits.length; i++) {
      numbers &= logits[i] == logits[i];
      best = logits[i] > logits[best] ? i : best;
    }
    if (!numbers || Float.isInfinite(logits[best])) {
      throw EdgeModelException.device(
          "the model returned logits that are not finite numbers; use another variant");
    }
    return best;
  }
}
