package edgemodel.litert;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import edgemodel.EdgeModelException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Optional;

/**
 * LiteRT's C functions on the desktop, through java.lang.foreign. The library is the one that the Python package
 * ai-edge-litert ships (libLiteRt.so); structures and calls are those of
 * edgesdk/backends/litert/native_model.py and host_memory.py, which say what was found out about them.
 */
public final class ForeignLiteRt implements LiteRtApi {
  /** LiteRtLayout: the rank in the lowest seven bits, then dimensions and strides. */
  private static final long LAYOUT_BYTES = 4L * (1 + 2 * MOST_DIMENSIONS);

  private static final int CPU = 1;
  private static final int BOOL = 1;
  private static final int INT = 2;
  private static final int REGISTER_ACCELERATORS = 24;
  private static final int LEAST_SEVERITY = 25;
  private static final int SILENT = 4;

  /** LiteRtEnvOption: a tag, and a LiteRtAny, whose value is a union of 8 bytes. */
  private static final long OPTION_BYTES = 24;

  private final Linker linker = Linker.nativeLinker();
  private final SymbolLookup symbols;
  private final MethodHandle run;
  private final MethodHandle resize;
  private final MethodHandle createBuffer;
  private final MethodHandle destroyBuffer;

  /**
   * @param library path of libLiteRt.so; it stays loaded.
   * @throws EdgeModelException kind DEVICE: it cannot be loaded, or lacks a function.
   */
  public ForeignLiteRt(Path library) {
    try {
      symbols = SymbolLookup.libraryLookup(library, Arena.global());
    } catch (IllegalArgumentException error) {
      throw new EdgeModelException(
          EdgeModelException.Kind.DEVICE, "LiteRT's library " + library + " cannot be loaded", error);
    }
    run =
        handle(
            "LiteRtRunCompiledModel",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS));
    resize =
        handle(
            "LiteRtCompiledModelResizeInputTensorNonStrict",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_LONG, ADDRESS, JAVA_LONG));
    createBuffer =
        handle(
            "LiteRtCreateTensorBufferFromHostMemory",
            FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS));
    destroyBuffer = handle("LiteRtDestroyTensorBuffer", FunctionDescriptor.ofVoid(ADDRESS));
  }

  private MethodHandle handle(String name, FunctionDescriptor descriptor) {
    MemorySegment symbol =
        symbols
            .find(name)
            .orElseThrow(
                () -> EdgeModelException.device("LiteRT's library has no " + name + "; use version 2.1.6 or later"));
    return linker.downcallHandle(symbol, descriptor);
  }

  /** Calls a function that returns a status. */
  private int call(String name, Object... arguments) {
    MemoryLayout[] layouts = new MemoryLayout[arguments.length];
    for (int i = 0; i < layouts.length; i++) {
      layouts[i] =
          arguments[i] instanceof MemorySegment ? ADDRESS : arguments[i] instanceof Long ? JAVA_LONG : JAVA_INT;
    }
    try {
      return (int) handle(name, FunctionDescriptor.of(JAVA_INT, layouts)).invokeWithArguments(arguments);
    } catch (Throwable error) {
      throw broken(name, error);
    }
  }

  /** What a call that cannot throw has thrown. */
  private static RuntimeException broken(String name, Throwable error) {
    if (error instanceof RuntimeException unchecked) {
      return unchecked;
    }
    if (error instanceof Error fatal) {
      throw fatal;
    }
    return new IllegalStateException(name, error);
  }

  /** Calls a function whose last argument receives a handle. */
  private MemorySegment make(String name, String what, Object... arguments) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(ADDRESS);
      Object[] all = Arrays.copyOf(arguments, arguments.length + 1);
      all[arguments.length] = out;
      int status = call(name, all);
      MemorySegment made = out.get(ADDRESS, 0);
      if (status != 0 || made.equals(MemorySegment.NULL)) {
        throw EdgeModelException.device("LiteRT cannot load " + what + ": " + name + " gave status " + status);
      }
      return made;
    }
  }

  private void destroy(String name, MemorySegment handle) {
    try {
      handle(name, FunctionDescriptor.ofVoid(ADDRESS)).invokeWithArguments(handle);
    } catch (Throwable error) {
      throw broken(name, error);
    }
  }

  /** Handles of an opened file, to be closed in the other order. */
  private final class File implements Opened {
    private final MemorySegment environment;
    private final MemorySegment model;
    private final MemorySegment options;
    private final MemorySegment compiled;

    /** LiteRT keeps the address of option texts as long as the model lives. */
    private final Arena texts = Arena.ofShared();

    File(String file, String xnnpack) {
      String what = Path.of(file).getFileName().toString();
      MemorySegment[] made = new MemorySegment[4];
      boolean ready = false;
      try {
        // Accelerators of other devices would be looked for, and what is not found reported.
        MemorySegment wanted = texts.allocate(2 * OPTION_BYTES, 8);
        option(wanted, 0, REGISTER_ACCELERATORS, BOOL, 0);
        option(wanted, 1, LEAST_SEVERITY, INT, SILENT);
        made[0] = make("LiteRtCreateEnvironment", what, 2, wanted);
        made[1] = make("LiteRtCreateModelFromFile", what, made[0], texts.allocateFrom(file));
        made[2] = make("LiteRtCreateOptions", what);
        if (call("LiteRtSetOptionsHardwareAccelerators", made[2], CPU) != 0) {
          throw EdgeModelException.device("LiteRT refused to run " + what + " on the CPU");
        }
        MemorySegment opaque =
            make(
                "LiteRtCreateOpaqueOptions",
                what,
                texts.allocateFrom("xnnpack"),
                texts.allocateFrom(xnnpack),
                keeper());
        if (call("LiteRtAddOpaqueOptions", made[2], opaque) != 0) {
          throw EdgeModelException.device("LiteRT refused its option xnnpack");
        }
        made[3] = make("LiteRtCreateCompiledModel", what, made[0], made[1], made[2]);
        ready = true;
      } finally {
        environment = made[0];
        model = made[1];
        options = made[2];
        compiled = made[3];
        if (!ready) {
          close();
        }
      }
    }

    private static void option(MemorySegment options, int place, int tag, int type, long value) {
      options.set(JAVA_INT, place * OPTION_BYTES, tag);
      options.set(JAVA_INT, place * OPTION_BYTES + 8, type);
      options.set(JAVA_LONG, place * OPTION_BYTES + 16, value);
    }

    @Override
    public int signatures() {
      return (int) size("LiteRtGetNumModelSignatures", model);
    }

    private MemorySegment signature(int index) {
      return make("LiteRtGetModelSignature", "its signatures", model, (long) index);
    }

    @Override
    public String key(int signature) {
      return text("LiteRtGetSignatureKey", signature(signature));
    }

    @Override
    public String[] inputs(int signature) {
      return names(signature(signature), "LiteRtGetNumSignatureInputs", "LiteRtGetSignatureInputName");
    }

    @Override
    public String[] outputs(int signature) {
      return names(signature(signature), "LiteRtGetNumSignatureOutputs", "LiteRtGetSignatureOutputName");
    }

    private String[] names(MemorySegment signature, String count, String name) {
      String[] names = new String[(int) size(count, signature)];
      for (int i = 0; i < names.length; i++) {
        names[i] = text(name, signature, (long) i);
      }
      return names;
    }

    private long size(String function, MemorySegment of) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment out = arena.allocate(JAVA_LONG);
        if (call(function, of, out) != 0) {
          throw EdgeModelException.device("LiteRT cannot tell the signatures of the file: " + function);
        }
        return out.get(JAVA_LONG, 0);
      }
    }

    private String text(String function, Object... of) {
      MemorySegment text = make(function, "its signatures", of);
      return text.reinterpret(Integer.MAX_VALUE).getString(0);
    }

    @Override
    public int[] inputShape(int signature, int place) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment layout = arena.allocate(LAYOUT_BYTES, 8);
        int status =
            call("LiteRtGetCompiledModelInputTensorLayout", compiled, (long) signature, (long) place, layout);
        int rank = layout.get(JAVA_INT, 0) & 0x7F;
        int[] shape = new int[status == 0 && rank <= MOST_DIMENSIONS ? rank : 0];
        for (int i = 0; i < shape.length; i++) {
          shape[i] = layout.get(JAVA_INT, 4L * (1 + i));
        }
        return shape;
      }
    }

    @Override
    public int resize(int signature, int place, int[] dimensions) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment wanted = arena.allocateFrom(JAVA_INT, dimensions);
        return (int)
            resize.invokeExact(compiled, (long) signature, (long) place, wanted, (long) dimensions.length);
      } catch (Throwable error) {
        throw broken("LiteRtCompiledModelResizeInputTensorNonStrict", error);
      }
    }

    @Override
    public int run(int signature, int inputs, ByteBuffer in, int outputs, ByteBuffer out) {
      try {
        return (int)
            run.invokeExact(
                compiled,
                (long) signature,
                (long) inputs,
                MemorySegment.ofBuffer(in),
                (long) outputs,
                MemorySegment.ofBuffer(out));
      } catch (Throwable error) {
        throw broken("LiteRtRunCompiledModel", error);
      }
    }

    @Override
    public void close() {
      if (compiled != null) {
        destroy("LiteRtDestroyCompiledModel", compiled);
      }
      if (options != null) {
        destroy("LiteRtDestroyOptions", options);
      }
      if (model != null) {
        destroy("LiteRtDestroyModel", model);
      }
      if (environment != null) {
        destroy("LiteRtDestroyEnvironment", environment);
      }
      texts.close();
    }
  }

  @Override
  public Opened open(String file, String xnnpack) {
    return new File(file, xnnpack);
  }

  @Override
  public ByteBuffer allocate(int bytes) {
    return Arena.ofAuto().allocate(bytes, ALIGNMENT_BYTES).asByteBuffer();
  }

  @Override
  public long buffer(int elementType, int[] shape, ByteBuffer memory) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment type = arena.allocate(4 + LAYOUT_BYTES, 8);
      type.set(JAVA_INT, 0, elementType);
      type.set(JAVA_INT, 4, shape.length);
      for (int i = 0; i < shape.length; i++) {
        type.set(JAVA_INT, 4L * (2 + i), shape[i]);
      }
      MemorySegment out = arena.allocate(ADDRESS);
      int status =
          (int)
              createBuffer.invokeExact(
                  type,
                  MemorySegment.ofBuffer(memory),
                  (long) memory.remaining(),
                  MemorySegment.NULL,
                  out);
      if (status != 0) {
        throw EdgeModelException.device("LiteRT refused host memory (status " + status + ")");
      }
      return out.get(ADDRESS, 0).address();
    } catch (Throwable error) {
      throw broken("LiteRtCreateTensorBufferFromHostMemory", error);
    }
  }

  @Override
  public void destroyBuffer(long buffer) {
    try {
      destroyBuffer.invokeExact(MemorySegment.ofAddress(buffer));
    } catch (Throwable error) {
      throw broken("LiteRtDestroyTensorBuffer", error);
    }
  }

  @Override
  public int createMemoryFile() {
    Optional<MemorySegment> create = linker.defaultLookup().find("memfd_create");
    if (create.isEmpty()) {
      return -1;
    }
    MethodHandle making =
        linker.downcallHandle(create.get(), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT));
    try (Arena arena = Arena.ofConfined()) {
      return (int) making.invokeExact(arena.allocateFrom("edgemodel packed weights"), 0);
    } catch (Throwable error) {
      throw broken("memfd_create", error);
    }
  }

  @Override
  public void closeMemoryFile(int descriptor) {
    MemorySegment close = linker.defaultLookup().find("close").orElseThrow();
    MethodHandle closing = linker.downcallHandle(close, FunctionDescriptor.of(JAVA_INT, JAVA_INT));
    try {
      int ignored = (int) closing.invokeExact(descriptor);
    } catch (Throwable error) {
      throw broken("close", error);
    }
  }

  /** What LiteRT calls to free the text of an option, which frees nothing. */
  private MemorySegment keeper() {
    try {
      MethodHandle nothing =
          MethodHandles.lookup()
              .findStatic(
                  ForeignLiteRt.class, "keep", MethodType.methodType(void.class, MemorySegment.class));
      return linker.upcallStub(nothing, FunctionDescriptor.ofVoid(ADDRESS), Arena.global());
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error);
    }
  }

  private static void keep(MemorySegment text) {}
}
