package edgemodel.steps;

import edgemodel.bundle.StepShape;
import java.util.Arrays;

/**
 * Writes which cells and which new tokens the rows of a step see.
 *
 * <p>A row sees the sequence's cells, itself and the new tokens before it; with a window only the last
 * `window` of these. Rows without a token see themselves: a row that sees nothing has no softmax.
 */
final class StepMask {
  /**
   * What a masked entry says, as `MASKED` of edgesdk/backends/protocol.py, with which tests/android_demo
   * compares it: an infinity makes NaN of a row that sees nothing.
   */
  static final float MASKED = -1e9f;

  private float[] masked = {};
  private float[] shown = {};

  /**
   * Writes the masks for new tokens of one sequence.
   *
   * @param cells of the sequence, in order.
   * @param length how many they are.
   * @param tokens how many are new.
   * @param window of the layers that have one; 0 for models without.
   */
  void write(StepBuffers buffers, StepShape size, int[] cells, int length, int tokens, int window) {
    if (masked.length < buffers.layout.width) {
      masked = new float[buffers.layout.width];
      shown = new float[buffers.layout.width];
      Arrays.fill(masked, MASKED);
    }
    fill(buffers.mask, buffers.layout, size, cells, length, tokens, Integer.MAX_VALUE);
    if (buffers.windowMask != null) {
      fill(buffers.windowMask, buffers.layout, size, cells, length, tokens, window);
    }
  }

  private void fill(
      TensorMemory mask, MaskLayout layout, StepShape size, int[] cells, int length, int tokens, int window) {
    for (int row = 0; row < size.tokens; row++) {
      int start = row * layout.width;
      mask.set(start, layout.width, masked);
      if (row >= tokens) {
        mask.set(start + layout.newTokens + row, 1, shown);
        continue;
      }
      int lowest = window == Integer.MAX_VALUE ? 0 : Math.max(0, length + row - window + 1);
      show(mask, start + layout.cells, cells, lowest, length);
      int firstNew = Math.max(0, lowest - length);
      mask.set(start + layout.newTokens + firstNew, row + 1 - firstNew, shown);
    }
  }

  /** Shows cells in one row, in runs of neighbours, which they nearly always are. */
  private void show(TensorMemory mask, int start, int[] cells, int from, int to) {
    for (int i = from; i < to; ) {
      int first = i++;
      while (i < to && cells[i] == cells[i - 1] + 1) {
        i++;
      }
      mask.set(start + cells[first], i - first, shown);
    }
  }
}
