package edgemodel.steps;

import edgemodel.EdgeModelException;
import edgemodel.bundle.StepShape;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;

/**
 * Which of a variant's sizes to run: the smallest T that holds the tokens, for it the smallest R that holds
 * the wanted rows, and for both the smallest S that covers the cells in use, because attention costs what S
 * is, used or not.
 *
 * <p>It follows edgesdk/kv/step_sizes.py.
 */
public final class StepSizes {
  /** Cells shrink only when one part in so many of the smaller size stays free: else they soon grow again. */
  private static final int SPARE_SHARE = 4;

  /** Steps of at most so many tokens cost little more than one token does: room for drafts. */
  private static final int FEW = 16;

  private final List<StepShape> sizes;

  /** Every S on offer, smallest first. */
  private final int[] capacities;

  /**
   * @throws EdgeModelException kind BUNDLE: sequences of `context` tokens cannot be run.
   */
  public StepSizes(List<StepShape> sizes, int context) {
    this.sizes = new ArrayList<StepShape>(sizes);
    TreeSet<Integer> all = new TreeSet<Integer>();
    for (StepShape size : sizes) {
      all.add(Integer.valueOf(size.cells));
    }
    capacities = new int[all.size()];
    int place = 0;
    for (Integer cells : all) {
      capacities[place++] = cells.intValue();
    }
    int most = capacities.length == 0 ? 0 : capacities[capacities.length - 1];
    if (most < context || context < 1) {
      throw EdgeModelException.bundle(
          "the step graph holds " + most + " cells at most, its context is " + context);
    }
  }

  public int smallestCapacity() {
    return capacities[0];
  }

  public int largestCapacity() {
    return capacities[capacities.length - 1];
  }

  /** The smallest S that holds so many cells. */
  public int capacityFor(int cells) {
    for (int capacity : capacities) {
      if (capacity >= cells) {
        return capacity;
      }
    }
    return largestCapacity();
  }

  /** How many of a sequence's tokens the next step runs best, while `used` cells are in use. */
  public int piece(int wanted, int used) {
    int most = 0;
    for (StepShape size : sizes) {
      if (size.cells >= used) {
        most = Math.max(most, size.tokens);
      }
    }
    return Math.min(wanted, most);
  }

  /** Most drafted tokens that a cheap step judges, the last token beside them. */
  public int mostDrafted() {
    int most = 1;
    for (StepShape size : sizes) {
      if (size.tokens == size.rows && size.tokens <= FEW) {
        most = Math.max(most, size.rows);
      }
    }
    return most - 1;
  }

  /**
   * The size for one step.
   *
   * @param tokens to be run.
   * @param rows whose logits are wanted; where no size has as many, the one with the most.
   * @param used cells in use.
   * @param held the S that the cells are laid out for now.
   * @throws EdgeModelException kind CAPACITY: no size runs as many.
   */
  public StepShape pick(int tokens, int rows, int used, int held) {
    int leastTokens = Integer.MAX_VALUE;
    for (StepShape size : sizes) {
      if (size.cells >= used && size.tokens >= tokens) {
        leastTokens = Math.min(leastTokens, size.tokens);
      }
    }
    int leastRows = Integer.MAX_VALUE;
    int mostRows = 0;
    for (StepShape size : sizes) {
      if (size.cells >= used && size.tokens == leastTokens) {
        mostRows = Math.max(mostRows, size.rows);
        leastRows = size.rows >= rows ? Math.min(leastRows, size.rows) : leastRows;
      }
    }
    int chosenRows = leastRows == Integer.MAX_VALUE ? mostRows : leastRows;
    StepShape smallest = null;
    StepShape kept = null;
    for (StepShape size : sizes) {
      if (size.cells < used || size.tokens != leastTokens || size.rows != chosenRows) {
        continue;
      }
      smallest = smallest == null || size.cells < smallest.cells ? size : smallest;
      kept = size.cells == held ? size : kept;
    }
    if (smallest == null) {
      throw EdgeModelException.capacity(
          "a step of " + tokens + " tokens with " + used + " cells in use is larger than any on offer; run"
              + " them in several steps");
    }
    return kept != null && used > smallest.cells - smallest.cells / SPARE_SHARE ? kept : smallest;
  }
}
