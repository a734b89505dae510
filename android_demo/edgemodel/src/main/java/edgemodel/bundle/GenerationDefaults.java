package edgemodel.bundle;

/** What the checkpoint recommends; null where it says nothing. */
public final class GenerationDefaults {
  static final String[] KEYS = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"};

  /** The sampler has no typical sampling; a checkpoint that recommends it is sampled without. */
  static final String[] UNREAD = {"typical_p"};

  public final Float temperature;
  public final Integer topK;
  public final Float topP;
  public final Float minP;
  public final Float repetitionPenalty;

  private GenerationDefaults(JsonFields from) {
    temperature = from.optionalFloat("temperature");
    topK = from.optionalInteger("top_k");
    topP = from.optionalFloat("top_p");
    minP = from.optionalFloat("min_p");
    repetitionPenalty = from.optionalFloat("repetition_penalty");
  }

  static GenerationDefaults read(JsonFields from) {
    from.expectKeys(KEYS, UNREAD);
    return new GenerationDefaults(from);
  }
}
