package edgemodel.text;

/**
 * Text to token ids, and token ids to bytes.
 *
 * <p>Bytes, not text: a character may spread over several tokens. {@link Detokenizer} joins them. An app that
 * needs another kind of tokenizer implements this.
 */
public interface TokenCoder {
  /** Token ids; special tokens written out in the text become their ids, none is added. */
  int[] encode(String text);

  /** What a token stands for, not to be changed; empty for an id without one. */
  byte[] bytes(int token);

  /** Whether a token is no part of an answer's text. */
  boolean isSpecial(int token);
}
