package edgemodel.steps;

import edgemodel.EdgeModelException;
import edgemodel.bundle.DecoderShape;
import java.nio.FloatBuffer;

/**
 * Keys and values of S cells, per layer (K, S, D), as a step reads them. Cells start as zeros: a masked cell
 * must hold numbers, because NaN times nothing is NaN.
 */
public final class CellMemory {
  public final int capacity;
  public final TensorMemory[] keys;
  public final TensorMemory[] values;

  public CellMemory(DecoderShape shape, int capacity, StepBuffers.Allocator memory) {
    this.capacity = capacity;
    keys = new TensorMemory[shape.layers];
    values = new TensorMemory[shape.layers];
    for (int layer = 0; layer < shape.layers; layer++) {
      keys[layer] = memory.allocate(shape.kvHeads, capacity, shape.headSize);
      values[layer] = memory.allocate(shape.kvHeads, capacity, shape.headSize);
    }
  }

  /**
   * Copies keys and values of a step into cells: those of the row `rows[i]` into `cells[i]`.
   *
   * @throws EdgeModelException kind DEVICE: they are not finite numbers.
   */
  void write(int[] rows, int[] cells, int count, StepBuffers from) {
    for (int layer = 0; layer < keys.length; layer++) {
      for (int i = 0; i < count; ) {
        int run = 1; // neighbours on both sides go together
        while (i + run < count && cells[i + run] == cells[i] + run && rows[i + run] == rows[i] + run) {
          run++;
        }
        expectFinite(from.newKeys[layer], rows[i], run);
        expectFinite(from.newValues[layer], rows[i], run);
        keys[layer].copyVectors(from.newKeys[layer], rows[i], cells[i], run);
        values[layer].copyVectors(from.newValues[layer], rows[i], cells[i], run);
        i += run;
      }
    }
  }

  /** Takes over the first `count` cells of another memory. */
  void take(int count, CellMemory other) {
    for (int layer = 0; count > 0 && layer < keys.length; layer++) {
      keys[layer].copyVectors(other.keys[layer], 0, 0, count);
      values[layer].copyVectors(other.values[layer], 0, 0, count);
    }
  }

  /** Products on int8 activations hide NaN from the logits (docs/decisions/0016). */
  private static void expectFinite(TensorMemory memory, int row, int count) {
    FloatBuffer floats = memory.floats();
    int length = memory.size(2);
    for (int head = 0; head < memory.size(0); head++) {
      int start = (head * memory.size(1) + row) * length;
      float sum = 0;
      for (int i = start; i < start + count * length; i++) {
        sum += floats.get(i) * 0f; // NaN for NaN and for infinity, else zero
      }
      if (sum != 0f) {
        throw EdgeModelException.device(
            "the model gave keys or values that are not finite numbers; use another variant");
      }
    }
  }
}
