package edgemodel.steps;

import edgemodel.EdgeModelException;
import edgemodel.bundle.DecoderShape;
import java.util.Arrays;

/**
 * Gives out the cells that all sequences of a model share, lowest index first, so that short sequences run in
 * the small sizes; the memory is laid out for the S that a step wants.
 */
final class CellPool {
  /** Most cells that can be in use. */
  final int capacity;

  private final DecoderShape shape;
  private final StepBuffers.Allocator allocator;
  private final boolean[] inUse;
  private CellMemory memory;
  private int frontier;
  private int used;

  CellPool(DecoderShape shape, int capacity, int smallest, StepBuffers.Allocator allocator) {
    this.shape = shape;
    this.capacity = capacity;
    this.allocator = allocator;
    inUse = new boolean[capacity];
    memory = new CellMemory(shape, smallest, allocator);
  }

  CellMemory memory() {
    return memory;
  }

  /** One more than the highest index in use. */
  int frontier() {
    return frontier;
  }

  int used() {
    return used;
  }

  int free() {
    return capacity - used;
  }

  /**
   * Takes free cells, lowest first.
   *
   * @param into gets them from `start` on.
   * @throws EdgeModelException kind CAPACITY; nothing has changed then.
   */
  void allocate(int count, int[] into, int start) {
    if (count > free()) {
      throw EdgeModelException.capacity(
          count + " cells are needed, " + free() + " of " + capacity
              + " are free; end or shorten other sequences");
    }
    int next = used == frontier ? frontier : 0; // without gaps there is nothing to look for
    for (int i = 0; i < count; next++) {
      if (!inUse[next]) {
        inUse[next] = true;
        into[start + i++] = next;
      }
    }
    used += count;
    frontier = Math.max(frontier, next);
  }

  void release(int[] cells, int from, int to) {
    for (int i = from; i < to; i++) {
      if (!inUse[cells[i]]) {
        throw new IllegalStateException("a free cell cannot be released");
      }
      inUse[cells[i]] = false;
      used--;
    }
    while (frontier > 0 && !inUse[frontier - 1]) {
      frontier--;
    }
  }

  /** Lays the memory out for `size` cells, at least as many as the frontier. */
  void layOut(int size) {
    if (size == memory.capacity) {
      return;
    }
    CellMemory next = new CellMemory(shape, size, allocator);
    next.take(Math.min(frontier, Math.min(memory.capacity, size)), memory);
    memory = next;
  }

  /** Which cells are in use, for tests. */
  boolean[] snapshot() {
    return Arrays.copyOf(inUse, frontier);
  }
}
