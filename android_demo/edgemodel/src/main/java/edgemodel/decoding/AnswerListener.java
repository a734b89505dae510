package edgemodel.decoding;

/** Gets an answer while it is written, on the thread that writes it. */
public interface AnswerListener {
  /** A piece of text that is certain, never half a character, never empty. */
  void onText(String piece);

  /** The end of a started answer; nothing follows. */
  void onEnd(Completion completion);

  /** The other end of a started answer; nothing follows. */
  void onError(RuntimeException error);
}
