package edgemodel.steps;

/** One sequence of tokens with its cached state. One thread at a time. */
public interface TokenSequence extends AutoCloseable {
  /** Most tokens that it can hold. */
  int context();

  /** How many tokens it holds. */
  int length();

  /** The token at a place below `length`. */
  int token(int place);

  /** Most tokens that `judge` takes beside the last one; 0 where drafts do not pay. */
  int mostDrafted();

  /**
   * Appends tokens, at least one.
   *
   * @param between looked at between two steps; what has been run stays when it says to stop.
   * @return (V,) logits after the last of them, valid until the next call; null when `between` said to stop.
   * @throws edgemodel.EdgeModelException kind CAPACITY before anything is run, or DEVICE.
   */
  float[] extend(int[] tokens, StopSignal between);

  /** Decides which tokens of a step are kept. */
  interface Judge {
    /**
     * @param rows whose `judged` gives the logits.
     * @return how many of the step's tokens are kept, from the first on.
     */
    int kept(TokenSequence rows);
  }

  /**
   * Runs a step with a token and tokens that may follow it, and keeps what a judge says. No other sequence of
   * the model runs a step before it has.
   *
   * @param tokens the next token of the sequence, then those that are drafted to follow.
   * @param count how many there are.
   */
  void judge(int[] tokens, int count, Judge judge);

  /**
   * Logits of the step that is judged; for a `Judge` only.
   *
   * @return (V,) after the token at `place`, valid until the next call.
   */
  float[] judged(int place);

  /** Forgets all tokens from `length` on. */
  void truncate(int length);

  /** Frees its cells; the model stays. */
  @Override
  void close();
}
