package edgemodel.litert;

import edgemodel.EdgeModelException;
import edgemodel.bundle.DecoderShape;
import edgemodel.bundle.StepShape;
import edgemodel.bundle.Variant;
import edgemodel.steps.CellMemory;
import edgemodel.steps.MaskLayout;
import edgemodel.steps.StepBuffers;
import edgemodel.steps.StepModel;
import edgemodel.steps.TensorMemory;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The step with LiteRT: signatures that are resized as they run (docs/decisions/0012), inputs and outputs in
 * place. It follows edgesdk/backends/litert/compiled.py.
 */
public final class LiteRtStepModel implements StepModel {
  /** Columns for new tokens in masks of the signature for a few; edgesdk/bundle/step_shape.py. */
  private static final int FEW = 16;

  /** Sizes whose arrays are kept: of one S, all that drafts and a prompt use. */
  private static final int MOST_SIZES = 8;

  private final Variant variant;
  private final LiteRtApi api;
  private final LiteRtApi.Opened opened;
  private final Map<String, Signature> signatures = new HashMap<String, Signature>();
  private final Map<StepShape, Size> sizes = new LinkedHashMap<StepShape, Size>(16, 0.75f, true);

  /** Holds the packed weights; null where each signature packs for itself. */
  private final PackingMemory packed;

  private boolean closed;
  private CellMemory cells;
  private long[] cellBuffers = {};

  /** A signature of the file, and the size that it has now. */
  private static final class Signature {
    final int index;
    final String[] inputs;
    final String[] outputs;
    StepShape laid;

    Signature(int index, String[] inputs, String[] outputs) {
      this.index = index;
      this.inputs = inputs;
      this.outputs = outputs;
    }

    boolean few() {
      for (String name : inputs) {
        if (name.endsWith(".few_first")) {
          return true;
        }
      }
      return false;
    }
  }

  /** What running one size needs; cells are bound where `cellPlaces` says. */
  private static final class Size {
    final Signature signature;
    final StepBuffers buffers;
    final List<Long> own = new ArrayList<Long>();
    Handles in;
    Handles out;
    int[][] inputShapes;
    int[] cellPlaces;
    CellMemory cells;

    Size(Signature signature, StepBuffers buffers) {
      this.signature = signature;
      this.buffers = buffers;
    }
  }

  /** Handles of buffers, as LiteRT takes them. */
  private static final class Handles {
    final ByteBuffer bytes;
    final LongBuffer each;

    Handles(int count) {
      bytes = ByteBuffer.allocateDirect(8 * count).order(ByteOrder.nativeOrder());
      each = bytes.asLongBuffer();
    }
  }

  /**
   * Opens a file.
   *
   * @param file the LiteRT file.
   * @param variant that describes it.
   * @param api LiteRT's functions.
   * @param threads of the CPU.
   * @throws EdgeModelException kind BUNDLE or DEVICE: LiteRT refuses it.
   */
  public LiteRtStepModel(File file, Variant variant, LiteRtApi api, int threads) {
    if (threads < 1) {
      throw EdgeModelException.option("threads is " + threads + ", expected 1 or more");
    }
    DecoderShape decoder = variant.decoder;
    if ((long) decoder.kvHeads * decoder.headSize * 4 % LiteRtApi.ALIGNMENT_BYTES != 0) {
      throw EdgeModelException.device(
          "LiteRT cannot use host memory in place: " + decoder.kvHeads + " KV heads of " + decoder.headSize
              + " do not fill whole " + LiteRtApi.ALIGNMENT_BYTES + "-byte lines; use ONNX Runtime");
    }
    this.variant = variant;
    this.api = api;
    packed = PackingMemory.open(api, file.length());
    LiteRtApi.Opened made = null;
    boolean ready = false;
    try {
      made = api.open(file.getPath(), xnnpack(threads));
      ready = true;
    } finally {
      if (!ready && packed != null) {
        packed.close();
      }
    }
    opened = made;
    ready = false;
    try {
      for (int i = 0; i < opened.signatures(); i++) {
        signatures.put(opened.key(i), new Signature(i, opened.inputs(i), opened.outputs(i)));
      }
      checkLayout();
      buffers(variant.mainSteps.get(0));
      ready = true;
    } finally {
      if (!ready) {
        close();
      }
    }
  }

  /** XNNPACK's options, in TOML. */
  private String xnnpack(int threads) {
    String text = "num_threads = " + threads + "\n";
    return packed == null ? text : text + "weight_cache_file_path = '" + packed.path() + "'\n";
  }

  /** Refuses a library whose structures are not the ones that are filled here. */
  private void checkLayout() {
    StepShape first = variant.mainSteps.get(0);
    Signature signature = signature(first);
    int place = Arrays.asList(signature.inputs).indexOf(signature.few() ? "mask.few_first" : "mask.new_first");
    int[] found = place < 0 ? new int[0] : opened.inputShape(signature.index, place);
    if (found.length != 2 || found[0] < 1 || found[1] < found[0]) {
      throw EdgeModelException.device(
          "LiteRT describes a mask as " + Arrays.toString(found) + "; the file is not of this edgesdk, or LiteRT's"
              + " C functions have changed");
    }
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
    return new TensorMemory(api.allocate(TensorMemory.byteCount(shape)), shape);
  }

  @Override
  public StepBuffers buffers(StepShape shape) {
    return size(shape).buffers;
  }

  @Override
  public void run(StepShape shape, CellMemory next) {
    Size size = size(shape);
    if (cells != next) {
      bindCells(next);
    }
    if (size.cells != next) {
      for (int i = 0; i < cellBuffers.length; i++) {
        size.in.each.put(size.cellPlaces[i], cellBuffers[i]);
      }
      size.cells = next;
    }
    Signature signature = size.signature;
    if (signature.laid != shape) {
      lay(size, shape);
    }
    int status =
        opened.run(
            signature.index,
            signature.inputs.length,
            size.in.bytes,
            signature.outputs.length,
            size.out.bytes);
    if (status != 0) {
      throw EdgeModelException.device("LiteRT failed in step " + shape + " (status " + status + ")");
    }
  }

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    opened.close();
    for (Size size : sizes.values()) {
      free(size);
    }
    sizes.clear();
    freeCells();
    if (packed != null) {
      packed.close();
    }
  }

  private void bindCells(CellMemory next) {
    freeCells();
    cellBuffers = new long[2 * next.keys.length];
    for (int layer = 0; layer < next.keys.length; layer++) {
      cellBuffers[2 * layer] = buffer(next.keys[layer], LiteRtApi.FLOAT32);
      cellBuffers[2 * layer + 1] = buffer(next.values[layer], LiteRtApi.FLOAT32);
    }
    cells = next; // kept, so that the memory stays
  }

  private void freeCells() {
    for (long buffer : cellBuffers) {
      api.destroyBuffer(buffer);
    }
    cellBuffers = new long[0];
    cells = null;
  }

  private void free(Size size) {
    for (long buffer : size.own) {
      api.destroyBuffer(buffer);
    }
  }

  /** Gives the inputs of a signature the shapes of a size. */
  private void lay(Size size, StepShape shape) {
    size.signature.laid = null; // some of them may have changed when one is refused
    for (int place = 0; place < size.inputShapes.length; place++) {
      int[] wanted = size.inputShapes[place];
      int status = opened.resize(size.signature.index, place, wanted);
      if (status != 0) {
        throw EdgeModelException.device(
            "LiteRT refused the shape " + Arrays.toString(wanted) + " for " + size.signature.inputs[place]
                + " in step " + shape + " (status " + status + ")");
      }
    }
    size.signature.laid = shape;
  }

  private Signature signature(StepShape shape) {
    Signature found = signatures.get(shape.signature);
    if (found == null) {
      throw EdgeModelException.bundle(
          "the LiteRT file has no signature " + shape.signature + "; convert it again");
    }
    return found;
  }

  private Size size(StepShape shape) {
    Size found = sizes.get(shape);
    if (found == null) {
      found = prepare(shape);
      sizes.put(shape, found);
      if (sizes.size() > MOST_SIZES) {
        StepShape oldest = sizes.keySet().iterator().next();
        free(sizes.remove(oldest));
      }
    }
    return found;
  }

  private Size prepare(StepShape shape) {
    DecoderShape decoder = variant.decoder;
    Signature signature = signature(shape);
    boolean few = signature.few();
    StepBuffers buffers =
        new StepBuffers(
            shape, decoder, MaskLayout.newFirst(few ? FEW : shape.tokens, shape.cells), this);
    String suffix = few ? ".few_first" : ".new_first";
    Map<String, TensorMemory> given = new HashMap<String, TensorMemory>();
    given.put("tokens", buffers.tokens);
    given.put("positions", buffers.positions);
    given.put("mask" + suffix, buffers.mask);
    if (buffers.windowMask != null) {
      given.put("window_mask" + suffix, buffers.windowMask);
    }
    if (shape.tokens > 1) {
      given.put("rows", buffers.rows);
    }
    if (variant.gates > 0) { // all zero: the model without its adapters
      given.put("gates", allocate(shape.tokens, variant.gates));
    }
    Map<String, TensorMemory> results = new HashMap<String, TensorMemory>();
    results.put("logits", buffers.logits);
    Map<String, Integer> cellPlaces = new HashMap<String, Integer>();
    for (int layer = 0; layer < decoder.layers; layer++) {
      results.put("k_new." + layer, buffers.newKeys[layer]);
      results.put("v_new." + layer, buffers.newValues[layer]);
      cellPlaces.put("k_cache." + layer, 2 * layer);
      cellPlaces.put("v_cache." + layer, 2 * layer + 1);
    }
    expectNames(signature.inputs, given.size() + cellPlaces.size(), "inputs");
    expectNames(signature.outputs, results.size(), "outputs");
    Size size = new Size(signature, buffers);
    size.inputShapes = new int[signature.inputs.length][];
    size.cellPlaces = new int[cellPlaces.size()];
    size.in = new Handles(signature.inputs.length);
    size.out = new Handles(signature.outputs.length);
    for (int place = 0; place < signature.inputs.length; place++) {
      String name = signature.inputs[place];
      Integer cell = cellPlaces.get(name);
      if (cell != null) {
        size.cellPlaces[cell] = place;
        size.inputShapes[place] = new int[] {decoder.kvHeads, shape.cells, decoder.headSize};
        continue;
      }
      TensorMemory memory = expect(given.get(name), name);
      boolean integers = memory == buffers.tokens || memory == buffers.positions || memory == buffers.rows;
      size.inputShapes[place] = memory.shape();
      bind(size, size.in, place, memory, integers ? LiteRtApi.INT32 : LiteRtApi.FLOAT32);
    }
    for (int place = 0; place < signature.outputs.length; place++) {
      String name = signature.outputs[place];
      bind(size, size.out, place, expect(results.get(name), name), LiteRtApi.FLOAT32);
    }
    return size;
  }

  private static void expectNames(String[] found, int expected, String kind) {
    if (found.length != expected) {
      throw EdgeModelException.bundle(
          "the LiteRT file has " + found.length + " " + kind + ", expected " + expected + "; convert it again");
    }
  }

  private static TensorMemory expect(TensorMemory memory, String name) {
    if (memory == null) {
      throw EdgeModelException.bundle(
          "the LiteRT file has " + name + ", which the manifest does not describe; convert it again");
    }
    return memory;
  }

  private void bind(Size size, Handles into, int place, TensorMemory memory, int type) {
    long made = buffer(memory, type);
    size.own.add(made);
    into.each.put(place, made);
  }

  private long buffer(TensorMemory memory, int type) {
    memory.bytes.clear();
    return api.buffer(type, memory.shape(), memory.bytes);
  }
}
