package edgemodel.steps;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import edgemodel.bundle.DecoderShape;
import edgemodel.bundle.StepShape;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Keeps what each step was given; its keys and values say which token they belong to. */
public final class RecordingModel implements StepModel {
  /** What a step was given, masks as the columns that each row sees, cells first. */
  public record Step(
      String signature,
      List<Integer> tokens,
      List<Integer> positions,
      List<List<Integer>> mask,
      List<List<Integer>> windowMask) {}

  public final List<Step> steps = new ArrayList<>();

  /** The tokens that the last token of each step saw, as the cells say, in order of positions. */
  public final List<List<Integer>> seen = new ArrayList<>();

  /** Tokens of the next steps are this many; the rest is filling. */
  public boolean spoilsKeys;

  private final DecoderShape shape;
  private final List<StepShape> sizes;
  private final boolean newFirst;
  private final Map<StepShape, StepBuffers> all = new HashMap<>();
  private boolean closed;

  public RecordingModel(List<StepShape> sizes, int window, int vocabSize, boolean newFirst) {
    shape = new DecoderShape(2, 2, 4, vocabSize, window);
    this.sizes = sizes;
    this.newFirst = newFirst;
  }

  @Override
  public DecoderShape shape() {
    return shape;
  }

  @Override
  public List<StepShape> sizes() {
    return sizes;
  }

  @Override
  public TensorMemory allocate(int... dimensions) {
    return TensorMemory.allocate(dimensions);
  }

  @Override
  public StepBuffers buffers(StepShape size) {
    return all.computeIfAbsent(
        size,
        made -> {
          MaskLayout layout =
              newFirst
                  ? MaskLayout.newFirst(made.tokens, made.cells)
                  : MaskLayout.cellsFirst(made.tokens, made.cells);
          return new StepBuffers(made, shape, layout, this);
        });
  }

  @Override
  public void run(StepShape size, CellMemory cells) {
    assertTrue(!closed && cells.capacity == size.cells);
    StepBuffers given = buffers(size);
    int live = given.rows.integers().get(size.rows - 1) + 1;
    List<List<Integer>> visible = zeros(given.mask, given.layout, size);
    for (int row = live; row < size.tokens; row++) {
      assertEquals(List.of(size.cells + row), visible.get(row));
    }
    List<List<Integer>> windowed =
        given.windowMask == null ? List.of() : zeros(given.windowMask, given.layout, size).subList(0, live);
    steps.add(
        new Step(
            size.signature,
            list(given.tokens, live),
            list(given.positions, live),
            visible.subList(0, live),
            windowed));
    for (int row = 0; row < live; row++) {
      for (int layer = 0; layer < shape.layers; layer++) {
        for (int head = 0; head < shape.kvHeads; head++) {
          int at = (head * size.tokens + row) * shape.headSize;
          float token = spoilsKeys ? Float.NaN : given.tokens.integers().get(row);
          given.newKeys[layer].floats().put(at, token);
          given.newValues[layer].floats().put(at, given.positions.integers().get(row));
        }
      }
    }
    for (int row = 0; row < size.rows; row++) {
      say(given, cells, size, row, visible);
    }
  }

  /** The next token is a sum over all that is seen, so one wrong cell changes the text. */
  private void say(StepBuffers given, CellMemory cells, StepShape size, int row, List<List<Integer>> visible) {
    int token = given.rows.integers().get(row);
    List<int[]> pairs = new ArrayList<>();
    for (int column : visible.get(Math.max(token, 0))) {
      boolean cell = column < size.cells;
      TensorMemory values = cell ? cells.values[1] : given.newValues[1];
      TensorMemory keys = cell ? cells.keys[1] : given.newKeys[1];
      int place = cell ? column : column - size.cells;
      pairs.add(new int[] {at(values, place), at(keys, place)});
    }
    pairs.sort(Comparator.comparingInt(pair -> pair[0]));
    if (row == size.rows - 1) {
      seen.add(pairs.stream().map(pair -> pair[1]).toList());
    }
    int sum = pairs.stream().mapToInt(pair -> (pair[0] + 1) * pair[1]).sum() + 1;
    for (int i = 0; i < shape.vocabSize; i++) {
      given.logits.floats().put(row * shape.vocabSize + i, i == sum % shape.vocabSize ? 1 : 0);
    }
  }

  /** What the second head of the second layer says about a cell. */
  private static int at(TensorMemory memory, int cell) {
    return (int) memory.floats().get((memory.size(1) + cell) * memory.size(2));
  }

  private static List<Integer> list(TensorMemory memory, int count) {
    return IntStream.range(0, count).mapToObj(i -> memory.integers().get(i)).toList();
  }

  private static List<List<Integer>> zeros(TensorMemory mask, MaskLayout layout, StepShape size) {
    List<List<Integer>> rows = new ArrayList<>();
    for (int row = 0; row < size.tokens; row++) {
      List<Integer> found = new ArrayList<>();
      for (int i = 0; i < size.cells + size.tokens; i++) {
        int column = i < size.cells ? layout.cells + i : layout.newTokens + i - size.cells;
        float value = mask.floats().get(row * layout.width + column);
        assertTrue(value == 0 || value == StepMask.MASKED);
        if (value == 0) {
          found.add(i);
        }
      }
      rows.add(found);
    }
    return rows;
  }

  @Override
  public void close() {
    closed = true;
  }
}
