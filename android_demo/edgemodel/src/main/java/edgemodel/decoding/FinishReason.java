package edgemodel.decoding;

/** Why an answer ended. */
public enum FinishReason {
  /** The model said an end token. */
  STOP,
  /** The text reached a stop string. */
  STOP_STRING,
  /** The most tokens that were asked for, or the end of the context. */
  LENGTH,
  CANCELLED
}
