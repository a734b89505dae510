package edgemodel.onnxruntime;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import edgemodel.EdgeModelException;
import edgemodel.bundle.DecoderShape;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.StepShape;
import edgemodel.bundle.Variant;
import edgemodel.steps.CellMemory;
import edgemodel.steps.MaskLayout;
import edgemodel.steps.StepBuffers;
import edgemodel.steps.StepModel;
import edgemodel.steps.TensorMemory;
import java.io.File;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The step with ONNX Runtime's Java API, on the JVM and on Android: a session per size, inputs and outputs in
 * place. Sessions are opened when their size is first used. It follows edgesdk/backends/onnxruntime_step.py.
 */
public final class OnnxStepModel implements StepModel {
  private final EdgeBundle bundle;
  private final Variant variant;
  private final int threads;
  private final OrtEnvironment environment;
  private final Map<StepShape, Size> sizes = new HashMap<StepShape, Size>();

  /** Keys and values that are bound now, and what binds them; kept, so that no other can get their address. */
  private CellMemory cells;

  private final Map<String, OnnxTensor> cellTensors = new LinkedHashMap<String, OnnxTensor>();

  /** What running one size needs. */
  private static final class Size implements AutoCloseable {
    final OrtSession session;
    final StepBuffers buffers;
    final Map<String, OnnxTensor> inputs = new LinkedHashMap<String, OnnxTensor>();
    final Map<String, OnnxTensor> outputs = new LinkedHashMap<String, OnnxTensor>();
    CellMemory cells;

    Size(OrtSession session, StepBuffers buffers) {
      this.session = session;
      this.buffers = buffers;
    }

    @Override
    public void close() throws OrtException {
      for (OnnxTensor tensor : outputs.values()) {
        tensor.close();
      }
      session.close(); // tensors over cells are not this size's
    }
  }

  /**
   * Opens the smallest size of a variant, so that a bad file is found here.
   *
   * @param threads of the CPU.
   * @throws EdgeModelException kind BUNDLE or DEVICE: ONNX Runtime refuses it.
   */
  public OnnxStepModel(EdgeBundle bundle, Variant variant, int threads) {
    if (threads < 1) {
      throw EdgeModelException.option("threads is " + threads + ", expected 1 or more");
    }
    this.bundle = bundle;
    this.variant = variant;
    this.threads = threads;
    environment = OrtEnvironment.getEnvironment();
    try {
      environment.setTelemetry(false);
    } catch (OrtException error) {
      throw failed("cannot be told to keep to itself", error);
    }
    buffers(variant.mainSteps.get(0));
  }

  /** Such as 1.22.0. */
  public String version() {
    return environment.getVersion();
  }

  @Override
  public DecoderShape shape() {
    return variant.decoder;
  }

  @Override
  public List<StepShape> sizes() {
    return variant.mainSteps;
  }

  @Override
  public TensorMemory allocate(int... shape) {
    return TensorMemory.allocate(shape);
  }

  @Override
  public StepBuffers buffers(StepShape size) {
    return size(size).buffers;
  }

  @Override
  public void run(StepShape shape, CellMemory cells) {
    Size size = size(shape);
    try {
      if (this.cells != cells) {
        bindCells(cells);
      }
      if (size.cells != cells) {
        size.inputs.putAll(cellTensors);
        size.cells = cells;
      }
      size.session.run(size.inputs, size.outputs).close(); // which frees nothing that is pinned
    } catch (OrtException error) {
      throw failed("failed in step " + shape.signature, error);
    }
  }

  @Override
  public void close() {
    try {
      for (Size size : sizes.values()) {
        for (Map.Entry<String, OnnxTensor> input : size.inputs.entrySet()) {
          if (!cellTensors.containsKey(input.getKey())) {
            input.getValue().close();
          }
        }
        size.close();
      }
      closeCells();
    } catch (OrtException error) {
      throw failed("cannot be closed", error);
    } finally {
      sizes.clear();
      cells = null;
    }
  }

  private void bindCells(CellMemory next) throws OrtException {
    closeCells();
    for (int layer = 0; layer < next.keys.length; layer++) {
      cellTensors.put("k_cache." + layer, floats(next.keys[layer]));
      cellTensors.put("v_cache." + layer, floats(next.values[layer]));
    }
    cells = next;
  }

  private void closeCells() {
    for (OnnxTensor tensor : cellTensors.values()) {
      tensor.close();
    }
    cellTensors.clear();
    cells = null;
  }

  private Size size(StepShape shape) {
    Size found = sizes.get(shape);
    if (found == null) {
      found = open(shape);
      sizes.put(shape, found);
    }
    return found;
  }

  private Size open(StepShape shape) {
    String folder = variant.entry.substring(0, variant.entry.lastIndexOf('/') + 1);
    File file = bundle.file(folder + shape.signature + ".onnx");
    OrtSession session = null;
    boolean ready = false;
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      options.setInterOpNumThreads(1);
      session = environment.createSession(file.getPath(), options);
      Size size = prepare(session, shape, file.getName());
      ready = true;
      return size;
    } catch (OrtException error) {
      throw failed("cannot load " + file.getName(), error);
    } finally {
      if (!ready && session != null) {
        try {
          session.close();
        } catch (OrtException error) {
          ready = false; // what went wrong first is what is said
        }
      }
    }
  }

  private Size prepare(OrtSession session, StepShape shape, String file) throws OrtException {
    DecoderShape decoder = variant.decoder;
    Map<String, int[]> inputs = new LinkedHashMap<String, int[]>();
    inputs.put("tokens", new int[] {shape.tokens});
    inputs.put("positions", new int[] {shape.tokens});
    inputs.put("mask", new int[] {shape.tokens, shape.cells + shape.tokens});
    if (decoder.window > 0) {
      inputs.put("window_mask", new int[] {shape.tokens, shape.cells + shape.tokens});
    }
    inputs.put("rows", new int[] {shape.rows});
    if (variant.gates > 0) {
      inputs.put("gates", new int[] {shape.tokens, variant.gates});
    }
    Map<String, int[]> outputs = new LinkedHashMap<String, int[]>();
    outputs.put("logits", new int[] {shape.rows, decoder.vocabSize});
    for (int layer = 0; layer < decoder.layers; layer++) {
      for (String side : new String[] {"k", "v"}) {
        int[] cells = {decoder.kvHeads, shape.cells, decoder.headSize};
        int[] added = {decoder.kvHeads, shape.tokens, decoder.headSize};
        inputs.put(side + "_cache." + layer, cells);
        outputs.put(side + "_new." + layer, added);
      }
    }
    // Before memory is made for what they say.
    expect("input", session.getInputInfo(), inputs, file);
    expect("output", session.getOutputInfo(), outputs, file);
    MaskLayout layout = MaskLayout.cellsFirst(shape.tokens, shape.cells);
    StepBuffers buffers = new StepBuffers(shape, decoder, layout, this);
    Size size = new Size(session, buffers);
    size.inputs.put("tokens", integers(buffers.tokens));
    size.inputs.put("positions", integers(buffers.positions));
    size.inputs.put("mask", floats(buffers.mask));
    if (buffers.windowMask != null) {
      size.inputs.put("window_mask", floats(buffers.windowMask));
    }
    size.inputs.put("rows", integers(buffers.rows));
    if (variant.gates > 0) { // all zero: the model without its adapters
      size.inputs.put("gates", floats(TensorMemory.allocate(shape.tokens, variant.gates)));
    }
    size.outputs.put("logits", floats(buffers.logits));
    for (int layer = 0; layer < decoder.layers; layer++) {
      size.outputs.put("k_new." + layer, floats(buffers.newKeys[layer]));
      size.outputs.put("v_new." + layer, floats(buffers.newValues[layer]));
    }
    return size;
  }

  private static void expect(
      String kind, Map<String, NodeInfo> found, Map<String, int[]> expected, String file) {
    for (String name : found.keySet()) {
      if (!expected.containsKey(name)) {
        throw EdgeModelException.bundle(
            file + " has the " + kind + " " + name + ", which the manifest does not describe; convert it again");
      }
    }
    for (Map.Entry<String, int[]> entry : expected.entrySet()) {
      NodeInfo node = found.get(entry.getKey());
      if (node == null) {
        throw EdgeModelException.bundle(
            file + " lacks the " + kind + " " + entry.getKey() + "; convert the bundle again");
      }
      boolean tensor = node.getInfo() instanceof TensorInfo;
      long[] shape = tensor ? ((TensorInfo) node.getInfo()).getShape() : new long[0];
      boolean fits = tensor && shape.length == entry.getValue().length;
      for (int i = 0; fits && i < shape.length; i++) {
        // What a file leaves open of an output the runtime compares when it runs.
        fits = shape[i] == entry.getValue()[i] || shape[i] < 0 && kind.equals("output");
      }
      if (!fits) {
        throw EdgeModelException.bundle(
            file + " has the " + kind + " " + entry.getKey() + " as " + Arrays.toString(shape) + ", expected "
                + Arrays.toString(entry.getValue()) + "; convert the bundle again");
      }
    }
  }

  private OnnxTensor floats(TensorMemory memory) throws OrtException {
    memory.floats().clear();
    return OnnxTensor.createTensor(environment, memory.floats(), dimensions(memory));
  }

  private OnnxTensor integers(TensorMemory memory) throws OrtException {
    memory.integers().clear();
    return OnnxTensor.createTensor(environment, memory.integers(), dimensions(memory));
  }

  private static long[] dimensions(TensorMemory memory) {
    int[] shape = memory.shape();
    long[] dimensions = new long[shape.length];
    for (int i = 0; i < shape.length; i++) {
      dimensions[i] = shape[i];
    }
    return dimensions;
  }

  private static EdgeModelException failed(String what, OrtException error) {
    String line = String.valueOf(error.getMessage()).split("\n", 2)[0];
    return new EdgeModelException(
        EdgeModelException.Kind.DEVICE, "ONNX Runtime " + what + ": " + line, error);
  }
}
