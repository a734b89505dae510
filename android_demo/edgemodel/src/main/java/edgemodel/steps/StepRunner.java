package edgemodel.steps;

import edgemodel.EdgeModelException;
import edgemodel.bundle.StepShape;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Arrays;

/**
 * Runs sequences over a step model: the host owns the cells, and what is not wanted is not copied. Sequences
 * of several threads take turns, a step each.
 */
public final class StepRunner implements AutoCloseable {
  private final StepModel model;
  private final StepSizes sizes;
  private final CellPool pool;
  private final StepMask mask = new StepMask();
  private final int context;
  private boolean closed;

  /**
   * @param model handed over: nobody else may use it from now on.
   * @param context most tokens of a sequence.
   * @throws EdgeModelException kind BUNDLE: its sizes do not hold as many.
   */
  public StepRunner(StepModel model, int context) {
    this.model = model;
    this.context = context;
    sizes = new StepSizes(model.sizes(), context);
    pool = new CellPool(model.shape(), sizes.largestCapacity(), sizes.smallestCapacity(), model);
  }

  /** Most tokens of a sequence. */
  public int context() {
    return context;
  }

  /** An empty sequence; close it to free its cells. */
  public TokenSequence newSequence() {
    return new CellSequence();
  }

  /** Cells in use, for receipts and tests. */
  public synchronized int usedCells() {
    return pool.used();
  }

  /** Bytes of the cells as they are laid out now. */
  public synchronized long cellBytes() {
    return pool.memory().capacity * model.shape().cellBytes();
  }

  /** Lays the cells out for the smallest S that holds those in use: call it under memory pressure. */
  public synchronized void shrink() {
    pool.layOut(sizes.capacityFor(pool.frontier()));
  }

  /** Releases the model, once the step that runs is over. */
  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      model.close();
    }
  }

  /** A sequence whose keys and values lie in the cells of the runner. */
  private final class CellSequence implements TokenSequence {
    private int[] tokens = new int[64];
    private int[] cells = new int[64];
    private int length;
    private boolean ended;

    private final float[] logits = new float[model.shape().vocabSize];
    private StepBuffers judgedBuffers;
    private int judgedRows;

    @Override
    public int context() {
      return context;
    }

    @Override
    public int length() {
      return length;
    }

    @Override
    public int token(int place) {
      return tokens[place];
    }

    @Override
    public int mostDrafted() {
      return sizes.mostDrafted();
    }

    @Override
    public float[] extend(int[] added, StopSignal between) {
      synchronized (StepRunner.this) {
        checkRoom(added, added.length);
      }
      for (int done = 0; done < added.length; ) {
        if (between != null && between.stops()) {
          return null;
        }
        synchronized (StepRunner.this) {
          int count = sizes.piece(added.length - done, pool.frontier());
          int[] piece = count == added.length ? added : Arrays.copyOfRange(added, done, done + count);
          done += count;
          StepBuffers buffers = run(piece, count, 1);
          copyRow(buffers, 0);
          store(buffers, piece, count);
        }
      }
      return logits;
    }

    @Override
    public void judge(int[] added, int count, Judge judge) {
      synchronized (StepRunner.this) {
        checkRoom(added, count);
        judgedBuffers = run(added, count, count);
        judgedRows = count;
        try {
          int kept = judge.kept(this);
          if (kept < 0 || kept > count) {
            throw new IllegalArgumentException(kept + " tokens of " + count + " cannot be kept");
          }
          store(judgedBuffers, added, kept);
        } finally {
          judgedRows = 0;
        }
      }
    }

    @Override
    public float[] judged(int place) {
      if (place >= judgedRows) {
        throw new IllegalStateException("row " + place + " of " + judgedRows + " is not judged");
      }
      copyRow(judgedBuffers, place);
      return logits;
    }

    @Override
    public void truncate(int to) {
      synchronized (StepRunner.this) {
        int kept = Math.max(0, to);
        if (kept < length) {
          pool.release(cells, kept, length);
          length = kept;
        }
      }
    }

    @Override
    public void close() {
      truncate(0);
      ended = true;
    }

    private void checkRoom(int[] added, int count) {
      if (closed || ended) {
        throw EdgeModelException.device("the model or the sequence was closed; load it again");
      }
      if (count < 1) {
        throw EdgeModelException.option("no tokens are given, expected at least one");
      }
      if (length + count > context) {
        throw EdgeModelException.capacity(
            length + " tokens and " + count + " more exceed the context of " + context
                + "; shorten the prompt");
      }
      if (count > pool.free()) {
        throw EdgeModelException.capacity(
            count + " cells are needed, " + pool.free() + " are free; end other sequences");
      }
      int vocabulary = model.shape().vocabSize;
      for (int i = 0; i < count; i++) {
        if (added[i] < 0 || added[i] >= vocabulary) {
          throw EdgeModelException.option("token " + added[i] + " is not in the vocabulary of " + vocabulary);
        }
      }
    }

    /** Runs one step; the logits of the last `rows` tokens are wanted. */
    private StepBuffers run(int[] added, int count, int rows) {
      StepShape size = sizes.pick(count, rows, pool.frontier(), pool.memory().capacity);
      pool.layOut(size.cells);
      StepBuffers buffers = model.buffers(size);
      IntBuffer ids = buffers.tokens.integers();
      IntBuffer positions = buffers.positions.integers();
      for (int i = 0; i < size.tokens; i++) {
        ids.put(i, i < count ? added[i] : 0);
        positions.put(i, i < count ? length + i : 0);
      }
      IntBuffer wanted = buffers.rows.integers();
      for (int i = 0; i < size.rows; i++) {
        wanted.put(i, Math.min(count - rows + i, count - 1));
      }
      mask.write(buffers, size, cells, length, count, model.shape().window);
      model.run(size, pool.memory());
      return buffers;
    }

    private void copyRow(StepBuffers buffers, int row) {
      FloatBuffer all = buffers.logits.floats();
      all.position(row * logits.length);
      all.get(logits);
    }

    /** Gives cells to the first tokens of a step. */
    private void store(StepBuffers buffers, int[] added, int count) {
      if (length + count > cells.length) {
        cells = Arrays.copyOf(cells, 2 * (length + count));
        tokens = Arrays.copyOf(tokens, cells.length);
      }
      if (rowNumbers.length < count) {
        rowNumbers = new int[count];
        newCells = new int[count];
        for (int i = 0; i < count; i++) {
          rowNumbers[i] = i;
        }
      }
      pool.allocate(count, newCells, 0);
      int last = count == 0 ? -1 : newCells[count - 1];
      try {
        if (last >= pool.memory().capacity) {
          pool.layOut(sizes.capacityFor(last + 1));
        }
        pool.memory().write(rowNumbers, newCells, count, buffers);
      } catch (EdgeModelException | OutOfMemoryError error) {
        pool.release(newCells, 0, count);
        throw error;
      }
      System.arraycopy(added, 0, tokens, length, count);
      System.arraycopy(newCells, 0, cells, length, count);
      length += count;
    }
  }

  private int[] rowNumbers = {};
  private int[] newCells = {};
}
