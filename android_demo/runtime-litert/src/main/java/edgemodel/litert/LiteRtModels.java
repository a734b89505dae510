package edgemodel.litert;

import edgemodel.EdgeModel;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.Variant;
import java.nio.file.Path;

/** Loads bundles with LiteRT on the desktop. */
public final class LiteRtModels {
  /** What variants for this runtime say as their format. */
  public static final String FORMAT = "litert";

  private LiteRtModels() {}

  /**
   * Loads a variant.
   *
   * @param name null for the first.
   * @param library path of libLiteRt.so, such as that of the Python package ai-edge-litert.
   * @throws edgemodel.EdgeModelException there is none, or something refuses it.
   */
  public static EdgeModel load(EdgeBundle bundle, String name, Path library, int threads) {
    long began = System.nanoTime();
    Variant variant = bundle.variant(FORMAT, name);
    Path file = bundle.file(variant.entry).toPath();
    LiteRtStepModel model = new LiteRtStepModel(file, variant, library, threads);
    return new EdgeModel(bundle, variant, model, null, "LiteRT, CPU, " + threads + " threads", began);
  }
}
