package edgemodel.litert;

import edgemodel.EdgeModel;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.Variant;

/** Loads bundles with LiteRT. */
public final class LiteRtModels {
  /** What variants for this runtime say as their format. */
  public static final String FORMAT = "litert";

  private LiteRtModels() {}

  /**
   * Loads a variant.
   *
   * @param name null for the first.
   * @param api LiteRT's functions: a JniLiteRt, or on the desktop a ForeignLiteRt.
   * @throws edgemodel.EdgeModelException there is none, or something refuses it.
   */
  public static EdgeModel load(EdgeBundle bundle, String name, LiteRtApi api, int threads) {
    long began = System.nanoTime();
    Variant variant = bundle.variant(FORMAT, name);
    LiteRtStepModel model = new LiteRtStepModel(bundle.file(variant.entry), variant, api, threads);
    return new EdgeModel(bundle, variant, model, null, "LiteRT, CPU, " + threads + " threads", began);
  }
}
