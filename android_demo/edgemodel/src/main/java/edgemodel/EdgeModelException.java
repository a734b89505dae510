package edgemodel;

/** What went wrong: each message says what was found, what was expected, and what to do. */
public final class EdgeModelException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private static final int SHOWN_BEGINNING = 3000; // a whole address of 2,000 letters, and words about it
  private static final int SHOWN_END = 500;

  /** What it is about. */
  public enum Kind {
    /** The bundle is damaged, of another version, or made for something else. */
    BUNDLE,
    /** The tokenizer needs a feature that this library does not have. */
    TOKENIZER,
    /** More tokens than the model, the cells that are free, or the memory can hold. */
    CAPACITY,
    /** The runtime refused or failed. */
    DEVICE,
    /** An option has no meaning. */
    OPTION
  }

  private final Kind kind;

  public EdgeModelException(Kind kind, String message) {
    this(kind, message, null);
  }

  public EdgeModelException(Kind kind, String message, Throwable cause) {
    super(oneLine(message), cause);
    this.kind = kind;
  }

  /** What strangers' files say stands in messages: no letter of it may end the line, nor fill a screen. */
  private static String oneLine(String message) {
    String line = message.replaceAll("[\\p{Cc}\\u2028\\u2029]", "?");
    int end = line.length() - SHOWN_END;
    return end <= SHOWN_BEGINNING ? line : line.substring(0, SHOWN_BEGINNING) + " .. " + line.substring(end);
  }

  public Kind kind() {
    return kind;
  }

  public static EdgeModelException bundle(String message) {
    return new EdgeModelException(Kind.BUNDLE, message);
  }

  public static EdgeModelException tokenizer(String message) {
    return new EdgeModelException(Kind.TOKENIZER, message);
  }

  public static EdgeModelException capacity(String message) {
    return new EdgeModelException(Kind.CAPACITY, message);
  }

  public static EdgeModelException device(String message) {
    return new EdgeModelException(Kind.DEVICE, message);
  }

  public static EdgeModelException option(String message) {
    return new EdgeModelException(Kind.OPTION, message);
  }
}
