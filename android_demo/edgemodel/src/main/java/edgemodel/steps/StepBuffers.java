package edgemodel.steps;

import edgemodel.bundle.DecoderShape;
import edgemodel.bundle.StepShape;

/** Inputs and outputs of one size; the caller fills the inputs, runs, and reads the outputs in place. */
public final class StepBuffers {
  /** (T,) int32. */
  public final TensorMemory tokens;

  /** (T,) int32. */
  public final TensorMemory positions;

  /** (T, N+S) additive: who sees which cell and which new token; `layout` says in which columns. */
  public final TensorMemory mask;

  /** The same for layers with a window; null for models without. */
  public final TensorMemory windowMask;

  /** (R,) int32, whose logits are wanted. */
  public final TensorMemory rows;

  /** (R, V). */
  public final TensorMemory logits;

  /** Per layer (K, T, D). */
  public final TensorMemory[] newKeys;

  public final TensorMemory[] newValues;

  /** Columns of the masks. */
  public final MaskLayout layout;

  /** What allocates memory as a runtime wants it. */
  public interface Allocator {
    /** An array of zeros. */
    TensorMemory allocate(int... shape);
  }

  public StepBuffers(StepShape size, DecoderShape shape, MaskLayout layout, Allocator memory) {
    this.layout = layout;
    tokens = memory.allocate(size.tokens);
    positions = memory.allocate(size.tokens);
    mask = memory.allocate(size.tokens, layout.width);
    windowMask = shape.window == 0 ? null : memory.allocate(size.tokens, layout.width);
    rows = memory.allocate(size.rows);
    logits = memory.allocate(size.rows, shape.vocabSize);
    newKeys = new TensorMemory[shape.layers];
    newValues = new TensorMemory[shape.layers];
    for (int layer = 0; layer < shape.layers; layer++) {
      newKeys[layer] = memory.allocate(shape.kvHeads, size.tokens, shape.headSize);
      newValues[layer] = memory.allocate(shape.kvHeads, size.tokens, shape.headSize);
    }
  }
}
