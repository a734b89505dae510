package edgemodel.steps;

/** Where a mask has its columns: those of the cells, and those of the new tokens. */
public final class MaskLayout {
  /** Columns in all. */
  public final int width;

  /** Column of the first cell. */
  public final int cells;

  /** Column of the first new token. */
  public final int newTokens;

  private MaskLayout(int width, int cells, int newTokens) {
    this.width = width;
    this.cells = cells;
    this.newTokens = newTokens;
  }

  /** S cells, then T new tokens: ONNX files. */
  public static MaskLayout cellsFirst(int tokens, int cells) {
    return new MaskLayout(cells + tokens, 0, cells);
  }

  /** Columns for new tokens, as many as `room`, then S cells: LiteRT files. */
  public static MaskLayout newFirst(int room, int cells) {
    return new MaskLayout(room + cells, room, 0);
  }
}
