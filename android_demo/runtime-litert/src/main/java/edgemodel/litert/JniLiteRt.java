package edgemodel.litert;

import edgemodel.EdgeModelException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * LiteRT by JNI, on a phone and on any JVM: src/main/c/edgemodel_litert.c has the other half. Load that library
 * before, by System.loadLibrary("edgemodel_litert") or System.load.
 *
 * <p>What a file names is decoded here, bytes that are no UTF-8 as U+FFFD: JNI's own texts end the process.
 */
public final class JniLiteRt implements LiteRtApi {
  private static final int KEY = 0;
  private static final int INPUTS = 1;
  private static final int OUTPUTS = 2;

  private static final String[] STEPS = {
    "LiteRtCreateEnvironment",
    "LiteRtCreateModelFromFile",
    "LiteRtCreateOptions",
    "LiteRtSetOptionsHardwareAccelerators",
    "LiteRtCreateOpaqueOptions",
    "LiteRtAddOpaqueOptions",
    "LiteRtCreateCompiledModel"
  };

  private final long functions;

  /**
   * @param library path of libLiteRt.so, or on Android its name; it stays loaded.
   * @throws EdgeModelException kind DEVICE: it cannot be loaded, or lacks a function.
   */
  public JniLiteRt(String library) {
    String[] lacking = new String[1];
    functions = load(library.getBytes(StandardCharsets.UTF_8), lacking);
    if (functions == 0) {
      throw EdgeModelException.device(
          lacking[0] == null
              ? "LiteRT's library " + library + " cannot be loaded"
              : "LiteRT's library has no " + lacking[0] + "; use version 2.1.6 or later");
    }
  }

  @Override
  public ByteBuffer allocate(int bytes) {
    ByteBuffer all = ByteBuffer.allocateDirect(Math.addExact(bytes, ALIGNMENT_BYTES));
    all.position((int) (-address(all) & ALIGNMENT_BYTES - 1));
    all.limit(all.position() + bytes);
    return all.slice();
  }

  @Override
  public Opened open(String file, String xnnpack) {
    int[] failed = new int[2];
    long handle =
        open(
            functions,
            file.getBytes(StandardCharsets.UTF_8),
            xnnpack.getBytes(StandardCharsets.UTF_8),
            failed);
    if (handle == 0) {
      throw EdgeModelException.device(
          "LiteRT cannot load " + file.substring(file.lastIndexOf('/') + 1) + ": " + STEPS[failed[0]]
              + " gave status " + failed[1]);
    }
    return new File(handle);
  }

  @Override
  public long buffer(int elementType, int[] shape, ByteBuffer memory) {
    long[] made = new long[1];
    int status = buffer(functions, elementType, shape, memory, made);
    if (status != 0) {
      throw EdgeModelException.device("LiteRT refused host memory (status " + status + ")");
    }
    return made[0];
  }

  @Override
  public void destroyBuffer(long buffer) {
    destroyBuffer(functions, buffer);
  }

  @Override
  public int createMemoryFile() {
    return memoryFile();
  }

  @Override
  public void closeMemoryFile(int descriptor) {
    forgetMemoryFile(descriptor);
  }

  private static final class File implements Opened {
    private long handle;

    File(long handle) {
      this.handle = handle;
    }

    @Override
    public int signatures() {
      return expect(count(handle, 0, KEY));
    }

    @Override
    public String key(int signature) {
      return text(signature, KEY, 0);
    }

    @Override
    public String[] inputs(int signature) {
      return names(signature, INPUTS);
    }

    @Override
    public String[] outputs(int signature) {
      return names(signature, OUTPUTS);
    }

    private String[] names(int signature, int kind) {
      String[] names = new String[expect(count(handle, signature, kind))];
      for (int i = 0; i < names.length; i++) {
        names[i] = text(signature, kind, i);
      }
      return names;
    }

    private String text(int signature, int kind, int place) {
      byte[] found = name(handle, signature, kind, place);
      expect(found == null ? -1 : 0);
      return new String(found, StandardCharsets.UTF_8);
    }

    private static int expect(int count) {
      if (count < 0) {
        throw EdgeModelException.device("LiteRT cannot tell the signatures of the file");
      }
      return count;
    }

    @Override
    public int[] inputShape(int signature, int place) {
      int[] all = new int[MOST_DIMENSIONS];
      int rank = JniLiteRt.inputShape(handle, signature, place, all);
      int[] shape = new int[Math.max(rank, 0)];
      System.arraycopy(all, 0, shape, 0, shape.length);
      return shape;
    }

    @Override
    public int resize(int signature, int place, int[] dimensions) {
      return JniLiteRt.resize(handle, signature, place, dimensions);
    }

    @Override
    public int run(int signature, int inputs, ByteBuffer in, int outputs, ByteBuffer out) {
      return JniLiteRt.run(handle, signature, inputs, in, outputs, out);
    }

    @Override
    public void close() {
      if (handle != 0) {
        JniLiteRt.close(handle);
        handle = 0;
      }
    }
  }

  private static native long load(byte[] path, String[] lacking);

  private static native long open(long functions, byte[] file, byte[] xnnpack, int[] failed);

  private static native void close(long opened);

  private static native int count(long opened, int signature, int kind);

  private static native byte[] name(long opened, int signature, int kind, int place);

  private static native int inputShape(long opened, int signature, int place, int[] into);

  private static native int resize(long opened, int signature, int place, int[] dimensions);

  private static native int run(
      long opened, int signature, int inputs, ByteBuffer in, int outputs, ByteBuffer out);

  private static native int buffer(long functions, int element, int[] shape, ByteBuffer memory, long[] made);

  private static native void destroyBuffer(long functions, long buffer);

  private static native long address(ByteBuffer memory);

  private static native int memoryFile();

  private static native void forgetMemoryFile(int descriptor);
}
