package edgemodel.bundle;

import edgemodel.EdgeModelException;
import com.eclipsesource.json.JsonValue;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** One executable form of the model. */
public final class Variant {
  static final String[] KEYS = {
    "name", "format", "recipe", "entry", "steps", "context", "decoder", "cell_type", "stacks"
  };
  static final String[] UNREAD = {
    "device_classes", "parity", "parity_skipped", "transforms", "weights", "calibration", "budget", "probe",
    "compatibility", "accuracy", "numbers", "vector_parity"
  };

  private static final int MOST_CONTEXT = 1 << 24;

  /** As edgesdk/bundle/adapter_record.py has it. */
  private static final int MOST_GATES = 64;

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

  /** Adapters that a step asks for by factors, 0 where it has none; an app runs the model without them. */
  public final int gates;

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
    gates = gates(from);
  }

  private static int gates(JsonFields from) {
    if (!from.has("stacks")) {
      return 0;
    }
    for (JsonFields stack : from.objects("stacks")) {
      if (!stack.string("name").equals("main") || !stack.has("inputs")) {
        continue;
      }
      for (JsonFields input : stack.objects("inputs")) {
        if (!input.string("name").equals("gates")) {
          continue; // what nobody fills here is refused where the file is opened
        }
        List<JsonValue> dims = input.array("dims");
        boolean fits = dims.size() == 2 && dims.get(1).isNumber();
        int count = fits ? dims.get(1).asInt() : 0;
        if (count < 1 || count > MOST_GATES) {
          throw EdgeModelException.bundle(
              input.path() + " has dimensions that gates cannot have; convert the bundle again");
        }
        return count;
      }
    }
    return 0;
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
