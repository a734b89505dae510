package edgemodel;

/** What was loaded, for logs and for reports of problems. */
public final class Receipt {
  public final String model;
  public final String variant;
  public final String recipe;

  /** Runtime and where it runs, such as ONNX Runtime on the CPU. */
  public final String runtime;

  public final int context;

  /** In milliseconds. */
  public final double loadMs;

  Receipt(String model, String variant, String recipe, String runtime, int context, double loadMs) {
    this.model = model;
    this.variant = variant;
    this.recipe = recipe;
    this.runtime = runtime;
    this.context = context;
    this.loadMs = loadMs;
  }

  @Override
  public String toString() {
    return model + ", " + variant + " with " + runtime + ", context " + context + ", loaded in "
        + Math.round(loadMs) + " ms";
  }
}
