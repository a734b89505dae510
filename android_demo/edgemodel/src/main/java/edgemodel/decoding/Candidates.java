package edgemodel.decoding;

import java.util.Arrays;

/**
 * Tokens that may be chosen, in order of their ids, and the filters that leave fewer of them, as
 * edgesdk/decoding/processors.py has them. A filter always keeps the most likely token. Nothing is allocated
 * once it has seen a vocabulary.
 *
 * <p>Papers: The Curious Case of Neural Text Degeneration (section 3, top-p); Turning Up the Heat: Min-p
 * Sampling (section 3).
 */
final class Candidates {
  private static final int[] HEADS = {64, 1024, Integer.MAX_VALUE};

  private int[] ids = {};
  private float[] logits = {};
  private int[] best = {};
  private int count;

  /** Takes all tokens, their logits divided by a temperature above 0. */
  void start(float[] all, float temperature) {
    if (ids.length < all.length) {
      ids = new int[all.length];
      logits = new float[all.length];
      best = new int[all.length];
    }
    count = all.length;
    float most = Float.NEGATIVE_INFINITY;
    for (float logit : all) {
      most = Math.max(most, logit);
    }
    float divisor = Math.max(temperature, 1e-30f);
    for (int i = 0; i < count; i++) {
      ids[i] = i;
      // Relative to the best: no overflow.
      logits[i] = temperature == 1 ? all[i] : (all[i] - most) / divisor;
    }
  }

  void keepTopK(int wanted) {
    if (wanted < count) {
      mostLikely(wanted);
      keepBest(wanted);
    }
  }

  void keepTopP(float share) {
    float most = most();
    double total = 0;
    for (int i = 0; i < count; i++) {
      total += weight(i, most);
    }
    double wanted = share * total;
    // Sorting a whole vocabulary takes as long as running a small model: the head nearly always does.
    for (int head : HEADS) {
      int length = Math.min(head, count);
      mostLikely(length);
      double sum = 0;
      for (int i = 0; i < length; i++) {
        sum += weight(best[i], most);
        if (sum >= wanted) {
          keepBest(i + 1);
          return;
        }
      }
      if (length == count) {
        return;
      }
    }
  }

  void keepMinP(float share) {
    float limit = most() + (float) Math.log(share);
    int kept = 0;
    for (int i = 0; i < count; i++) {
      if (logits[i] >= limit) {
        best[kept++] = i;
      }
    }
    keepBest(kept);
  }

  /** The candidate at `unit` (0 to 1) of the summed weights. */
  int draw(double unit) {
    float most = most();
    double total = 0;
    for (int i = 0; i < count; i++) {
      total += weight(i, most);
    }
    double sum = 0;
    int last = 0;
    for (int i = 0; i < count; i++) {
      double next = sum + weight(i, most);
      last = next > sum ? i : last;
      sum = next;
      if (sum > unit * total) {
        return ids[i];
      }
    }
    return ids[last];
  }

  /** The ids that are left. */
  int[] ids() {
    return Arrays.copyOf(ids, count);
  }

  private float most() {
    float most = Float.NEGATIVE_INFINITY;
    for (int i = 0; i < count; i++) {
      most = Math.max(most, logits[i]);
    }
    return most;
  }

  private double weight(int place, float most) {
    return (float) Math.exp(logits[place] - most);
  }

  /** Keeps the candidates at the first places of `best`. */
  private void keepBest(int kept) {
    Arrays.sort(best, 0, kept);
    for (int i = 0; i < kept; i++) {
      ids[i] = ids[best[i]];
      logits[i] = logits[best[i]];
    }
    count = kept;
  }

  /** Whether the candidate at place `a` is likelier than that at `b`; the lower id among equals. */
  private boolean before(int a, int b) {
    return logits[a] > logits[b] || logits[a] == logits[b] && ids[a] < ids[b];
  }

  /** Puts the places of the most likely candidates into `best`, the likeliest first. */
  private void mostLikely(int wanted) {
    // A heap whose root is the least of the best; few candidates ever pass it.
    for (int i = 0; i < wanted; i++) {
      best[i] = i;
    }
    for (int i = wanted / 2 - 1; i >= 0; i--) {
      sink(i, wanted);
    }
    for (int i = wanted; i < count; i++) {
      if (before(i, best[0])) {
        best[0] = i;
        sink(0, wanted);
      }
    }
    for (int end = wanted - 1; end > 0; end--) {
      int least = best[0];
      best[0] = best[end];
      best[end] = least;
      sink(0, end);
    }
  }

  private void sink(int from, int end) {
    int parent = from;
    while (true) {
      int least = parent;
      for (int child = 2 * parent + 1; child <= 2 * parent + 2 && child < end; child++) {
        least = before(best[least], best[child]) ? child : least;
      }
      if (least == parent) {
        return;
      }
      int moved = best[parent];
      best[parent] = best[least];
      best[least] = moved;
      parent = least;
    }
  }
}
