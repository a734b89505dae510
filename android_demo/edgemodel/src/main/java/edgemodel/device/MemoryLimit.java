package edgemodel.device;

import edgemodel.EdgeModelException;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.FileRecord;
import edgemodel.bundle.StepShape;
import edgemodel.bundle.Variant;
import java.util.Map;

/**
 * What a variant takes in memory, and a limit for it. An estimate, said before anything is loaded: weights are
 * counted as their files, which runtimes may map or unpack.
 */
public final class MemoryLimit {
  private MemoryLimit() {}

  /** Bytes of the variant's files. */
  public static long weightBytes(EdgeBundle bundle, Variant variant) {
    String folder = variant.entry.substring(0, variant.entry.lastIndexOf('/') + 1);
    long bytes = 0;
    for (Map.Entry<String, FileRecord> entry : bundle.manifest.files.entrySet()) {
      boolean probe = entry.getKey().endsWith(".npz"); // for `edgesdk verify`, never loaded
      bytes += entry.getKey().startsWith(folder) && !probe ? entry.getValue().sizeBytes : 0;
    }
    return bytes;
  }

  /** Bytes of keys and values when a sequence holds so many tokens. */
  public static long cellBytes(Variant variant, int tokens) {
    int cells = Integer.MAX_VALUE;
    for (StepShape size : variant.mainSteps) {
      cells = size.cells >= tokens ? Math.min(cells, size.cells) : cells;
    }
    return variant.decoder.cellBytes() * (cells == Integer.MAX_VALUE ? tokens : cells);
  }

  /**
   * Refuses a variant that would take more than a limit.
   *
   * @param tokens that a sequence is to hold.
   * @throws EdgeModelException kind CAPACITY.
   */
  public static void expect(EdgeBundle bundle, Variant variant, int tokens, long limitBytes) {
    long needed = weightBytes(bundle, variant) + cellBytes(variant, tokens);
    if (needed > limitBytes) {
      throw EdgeModelException.capacity(
          "variant " + variant.name + " takes about " + (needed >> 20) + " MiB with " + tokens
              + " tokens, " + (limitBytes >> 20) + " MiB are free; choose a smaller variant or context");
    }
  }
}
