package edgemodel.steps;

import edgemodel.bundle.DecoderShape;
import edgemodel.bundle.StepShape;
import java.util.List;

/**
 * The seam between the step loop and what executes it: docs/architecture.md, "The step". It runs the step in
 * the sizes that a variant offers. One call at a time.
 */
public interface StepModel extends StepBuffers.Allocator, AutoCloseable {
  DecoderShape shape();

  List<StepShape> sizes();

  /**
   * The arrays of one size.
   *
   * @throws edgemodel.EdgeModelException kind DEVICE: the runtime refuses the size.
   */
  StepBuffers buffers(StepShape size);

  /**
   * Runs one step on what `buffers(size)` holds; reads the cells, never writes them.
   *
   * @throws edgemodel.EdgeModelException kind DEVICE: the runtime failed.
   */
  void run(StepShape size, CellMemory cells);

  /** Releases the runtime's model; no call may follow. */
  @Override
  void close();
}
