package edgemodel.bundle;

import edgemodel.EdgeModelException;

/** One size of the step. */
public final class StepShape {
  static final String[] KEYS = {"tokens", "cells", "rows", "signature", "stack"};

  private static final int MOST_TOKENS = 1 << 16;
  private static final int MOST_CELLS = 1 << 24;

  /** T. */
  public final int tokens;

  /** S. */
  public final int cells;

  /** R. */
  public final int rows;

  /** Name of the signature or of the file. */
  public final String signature;

  /** Which entry into the weights it runs; `main` is the model itself. */
  public final String stack;

  public StepShape(int tokens, int cells, int rows, String signature, String stack) {
    this.tokens = tokens;
    this.cells = cells;
    this.rows = rows;
    this.signature = signature;
    this.stack = stack;
  }

  static StepShape read(JsonFields from) {
    from.expectKeys(KEYS);
    String stack = from.optionalString("stack");
    StepShape shape =
        new StepShape(
            from.integer("tokens"),
            from.integer("cells"),
            from.integer("rows"),
            from.string("signature"),
            stack == null ? "main" : stack);
    // Bounds that keep what is computed from them far from overflow.
    if (shape.tokens < 1
        || shape.tokens > MOST_TOKENS
        || shape.cells < 1
        || shape.cells > MOST_CELLS
        || shape.rows < 1
        || shape.rows > shape.tokens) {
      throw EdgeModelException.bundle(from.path() + " is an impossible size; convert the bundle again");
    }
    return shape;
  }

  @Override
  public String toString() {
    return signature + " (T " + tokens + ", S " + cells + ", R " + rows + ")";
  }
}
