package edgemodel.onnxruntime;

import edgemodel.EdgeModel;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.Variant;
import java.io.File;

/** Loads bundles with ONNX Runtime. */
public final class OnnxModels {
  /** What variants for this runtime say as their format. */
  public static final String FORMAT = "onnx-step";

  private OnnxModels() {}

  /**
   * Loads the first variant for ONNX Runtime of a bundle.
   *
   * @throws edgemodel.EdgeModelException there is none, or something refuses it.
   */
  public static EdgeModel load(File folder, int threads) {
    return load(new EdgeBundle(folder), null, threads);
  }

  /**
   * Loads a variant.
   *
   * @param name null for the first.
   * @throws edgemodel.EdgeModelException there is none, or something refuses it.
   */
  public static EdgeModel load(EdgeBundle bundle, String name, int threads) {
    long began = System.nanoTime();
    Variant variant = bundle.variant(FORMAT, name);
    OnnxStepModel model = new OnnxStepModel(bundle, variant, threads);
    String runtime = "ONNX Runtime " + model.version() + ", CPU, " + threads + " threads";
    return new EdgeModel(bundle, variant, model, null, runtime, began);
  }
}
