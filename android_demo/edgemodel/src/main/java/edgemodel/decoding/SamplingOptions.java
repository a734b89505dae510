package edgemodel.decoding;

import edgemodel.EdgeModelException;
import edgemodel.bundle.GenerationDefaults;

/** How the next token is chosen. */
public final class SamplingOptions {
  /** 0 takes the most likely token, the lowest id among equals; else logits are divided by it. */
  public final float temperature;

  /** Keep this many of the most likely tokens; 0 keeps all. */
  public final int topK;

  /** Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all. */
  public final float topP;

  /** Drop tokens less likely than this share of the most likely one; 0 drops none. */
  public final float minP;

  /** Logits of tokens already in the sequence are divided by it when positive, multiplied when negative. */
  public final float repetitionPenalty;

  /** Of the random numbers; null takes another one each time. */
  public final Long seed;

  /**
   * @throws EdgeModelException kind OPTION: a value has no meaning.
   */
  public SamplingOptions(
      float temperature, int topK, float topP, float minP, float repetitionPenalty, Long seed) {
    expect(temperature >= 0 && temperature < Float.POSITIVE_INFINITY, "temperature", temperature, "0 or more");
    expect(topK >= 0, "topK", topK, "1 or more, or 0 for all");
    expect(topP > 0 && topP <= 1, "topP", topP, "above 0 and at most 1");
    expect(minP >= 0 && minP <= 1, "minP", minP, "between 0 and 1");
    boolean penalises = repetitionPenalty > 0 && repetitionPenalty < Float.POSITIVE_INFINITY;
    expect(penalises, "repetitionPenalty", repetitionPenalty, "above 0");
    this.temperature = temperature;
    this.topK = topK;
    this.topP = topP;
    this.minP = minP;
    this.repetitionPenalty = repetitionPenalty;
    this.seed = seed;
  }

  /** The most likely token each time. */
  public static SamplingOptions greedy() {
    return new SamplingOptions(0, 0, 1, 0, 1, null);
  }

  /** What the checkpoint recommends; greedy where it says nothing. */
  public static SamplingOptions recommended(GenerationDefaults defaults) {
    return new SamplingOptions(
        or(defaults.temperature, 0),
        defaults.topK == null ? 0 : defaults.topK.intValue(),
        or(defaults.topP, 1),
        or(defaults.minP, 0),
        or(defaults.repetitionPenalty, 1),
        null);
  }

  private static float or(Float value, float otherwise) {
    return value == null ? otherwise : value.floatValue();
  }

  private static void expect(boolean holds, String name, float found, String expected) {
    if (!holds) {
      throw EdgeModelException.option(name + " is " + found + ", expected " + expected);
    }
  }
}
