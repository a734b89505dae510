package edgemodel.decoding;

import edgemodel.EdgeModelException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** How an answer is generated. Each `with` gives a changed copy. */
public final class GenerationOptions {
  public final SamplingOptions sampling;

  /** Most tokens of the answer; 0 for what the context has room for. */
  public final int maxTokens;

  /** Any of these ends the answer, and is no part of it. */
  public final List<String> stop;

  /** Leave special tokens out of the text. */
  public final boolean skipSpecial;

  /** Judge guesses looked up in the text itself, several tokens a step; the answer is the same. */
  public final boolean drafts;

  public GenerationOptions(SamplingOptions sampling) {
    this(sampling, 0, Collections.<String>emptyList(), true, true);
  }

  private GenerationOptions(
      SamplingOptions sampling, int maxTokens, List<String> stop, boolean skipSpecial, boolean drafts) {
    this.sampling = sampling;
    this.maxTokens = maxTokens;
    this.stop = Collections.unmodifiableList(new ArrayList<String>(stop));
    this.skipSpecial = skipSpecial;
    this.drafts = drafts;
  }

  /**
   * @throws EdgeModelException kind OPTION: it is less than 1.
   */
  public GenerationOptions withMaxTokens(int most) {
    if (most < 1) {
      throw EdgeModelException.option("maxTokens is " + most + ", expected 1 or more");
    }
    return new GenerationOptions(sampling, most, stop, skipSpecial, drafts);
  }

  public GenerationOptions withStop(List<String> strings) {
    return new GenerationOptions(sampling, maxTokens, strings, skipSpecial, drafts);
  }

  public GenerationOptions withSkipSpecial(boolean skips) {
    return new GenerationOptions(sampling, maxTokens, stop, skips, drafts);
  }

  public GenerationOptions withDrafts(boolean on) {
    return new GenerationOptions(sampling, maxTokens, stop, skipSpecial, on);
  }
}
