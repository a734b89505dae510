package edgemodel;

/** What went wrong: each message says what was found, what was expected, and what to do. */
public final class EdgeModelException extends RuntimeException {
  private static final long serialVersionUID = 1;

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
    super(message, cause);
    this.kind = kind;
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
