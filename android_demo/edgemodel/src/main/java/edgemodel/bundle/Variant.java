package edgemodel.bundle;

import edgemodel.EdgeModelException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** One executable form of the model. */
public final class Variant {
  static final String[] KEYS = {
    "name", "format", "recipe", "entry", "steps", "context", "decoder", "cell_type"
  };
  static final String[] UNREAD = {
    "device_classes", "parity", "parity_skipped", "transforms", "weights", "calibration", "budget", "probe",
    "compatibility", "accuracy", "numbers", "stacks"
  };

  private static final int MOST_CONTEXT = 1 << 24;

  public final String name;
  public final String format;
  public final String recipe;
  public final String entry;

  /** Longest sequence, in tokens. */
  public final int context;

  /** How keys and values are cached. */
  public final String cellType;

  /** Sizes of the model itself: an app runs no other stack. */
  public final List<StepShape> mainSteps;

  /** Its shape: the manifest's, unless it has its own. */
  public final DecoderShape decoder;

  private Variant(JsonFields from, DecoderShape decoder, List<StepShape> mainSteps) {
    name = from.string("name");
    format = from.string("format");
    recipe = from.string("recipe");
    entry = from.string("entry");
    context = from.integer("context");
    String type = from.optionalString("cell_type");
    cellType = type == null ? "float32" : type;
    this.mainSteps = Collections.unmodifiableList(mainSteps);
    this.decoder = decoder;
  }

  static Variant read(JsonFields from, DecoderShape common) {
    from.expectKeys(KEYS, UNREAD);
    List<StepShape> steps = new ArrayList<StepShape>();
    for (JsonFields step : from.objects("steps")) {
      StepShape shape = StepShape.read(step);
      if (shape.stack.equals("main")) {
        steps.add(shape);
      }
    }
    JsonFields own = from.optionalObject("decoder");
    Variant variant = new Variant(from, own == null ? common : DecoderShape.read(own), steps);
    if (variant.context < 1 || variant.context > MOST_CONTEXT) {
      throw EdgeModelException.bundle(from.path() + ".context cannot be; convert the bundle again");
    }
    return variant;
  }
}
