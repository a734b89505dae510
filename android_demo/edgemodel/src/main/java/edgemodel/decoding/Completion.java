package edgemodel.decoding;

/** A finished answer with its figures. Times count what the model and the host did, not the reader's time. */
public final class Completion {
  public final String text;

  /** Every chosen token, an end token included. */
  public final int[] tokens;

  public final FinishReason finishReason;
  public final int promptTokens;

  /** Tokens of the prompt that earlier turns had left in the cells. */
  public final int reusedTokens;

  /** Until the first token was chosen, in milliseconds. */
  public final double firstTokenMs;

  /** After the first token, in milliseconds. */
  public final double laterMs;

  /** Steps after the prompt, and tokens that they were given to judge and kept beside their own. */
  public final int steps;

  public final int drafted;
  public final int accepted;

  Completion(
      String text, int[] tokens, FinishReason finishReason, int promptTokens, Figures figures) {
    this.text = text;
    this.tokens = tokens;
    this.finishReason = finishReason;
    this.promptTokens = promptTokens;
    reusedTokens = figures.reused;
    firstTokenMs = figures.firstNs / 1e6;
    laterMs = figures.laterNs / 1e6;
    steps = figures.steps;
    drafted = figures.drafted;
    accepted = figures.accepted;
  }

  /** Tokens a second after the first; 0 where there is only one. */
  public double decodeTokensPerS() {
    return laterMs > 0 ? (tokens.length - 1) / (laterMs / 1e3) : 0;
  }

  /** What is counted while an answer is written. */
  static final class Figures {
    int reused;
    long firstNs;
    long laterNs;
    int steps;
    int drafted;
    int accepted;
  }
}
