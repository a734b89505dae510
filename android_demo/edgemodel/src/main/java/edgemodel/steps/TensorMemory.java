package edgemodel.steps;

import edgemodel.EdgeModelException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;

/**
 * A dense array, row after row, in memory outside the heap that keeps its address: the runtime reads and
 * writes it in place. It starts as zeros. Elements are float32 or int32; one thread at a time.
 */
public final class TensorMemory {
  private static final int LINE_BYTES = 64;
  private static final Method ALIGNED_SLICE = alignedSlice();

  private final int[] shape;

  /** The memory; position and limit are nobody's to rely on. */
  public final ByteBuffer bytes;

  private final FloatBuffer floats;
  private final IntBuffer integers;

  /**
   * Lays an array over memory.
   *
   * @param bytes direct memory of four bytes an element.
   * @param shape of the array.
   */
  public TensorMemory(ByteBuffer bytes, int... shape) {
    this.shape = shape.clone();
    this.bytes = bytes.order(ByteOrder.nativeOrder());
    if (!bytes.isDirect() || bytes.capacity() != byteCount(shape)) {
      throw new IllegalArgumentException("memory of " + bytes.capacity() + " bytes, or within the heap");
    }
    floats = this.bytes.asFloatBuffer();
    integers = this.bytes.asIntBuffer();
  }

  /**
   * An array in memory of the JVM, on a line of the cache where the platform can do that: else wide loads of
   * cells, which runtimes do, may cross two lines each.
   */
  public static TensorMemory allocate(int... shape) {
    int count = byteCount(shape);
    if (ALIGNED_SLICE == null || count > Integer.MAX_VALUE - 2 * LINE_BYTES) {
      return new TensorMemory(ByteBuffer.allocateDirect(count), shape);
    }
    int lines = (count + LINE_BYTES - 1) / LINE_BYTES;
    ByteBuffer room = ByteBuffer.allocateDirect((lines + 1) * LINE_BYTES);
    try {
      ByteBuffer aligned = (ByteBuffer) ALIGNED_SLICE.invoke(room, LINE_BYTES);
      aligned.limit(count);
      return new TensorMemory(aligned.slice(), shape);
    } catch (ReflectiveOperationException error) {
      throw new IllegalStateException(error); // it is public, and 64 is a power of two
    }
  }

  /** ByteBuffer.alignedSlice, which Java has since 9; null before, and on Android's without it. */
  private static Method alignedSlice() {
    try {
      return ByteBuffer.class.getMethod("alignedSlice", int.class);
    } catch (NoSuchMethodException error) {
      return null;
    }
  }

  /**
   * Bytes that an array takes.
   *
   * @throws EdgeModelException kind CAPACITY: more than one array can have.
   */
  public static int byteCount(int... shape) {
    long count = 4;
    for (int size : shape) {
      count *= size;
      if (count > Integer.MAX_VALUE) {
        throw EdgeModelException.capacity(
            "an array would take more than 2 GiB, which Java cannot address; use a smaller context");
      }
    }
    return (int) count;
  }

  public int[] shape() {
    return shape.clone();
  }

  public int size(int dimension) {
    return shape[dimension];
  }

  public int count() {
    return floats.capacity();
  }

  /** As 32-bit floats; its position moves. */
  public FloatBuffer floats() {
    return floats;
  }

  /** As 32-bit integers. */
  public IntBuffer integers() {
    return integers;
  }

  /** Sets floats from `start` on, `count` of them, to one value, which `values` holds as often. */
  void set(int start, int count, float[] values) {
    floats.position(start);
    floats.put(values, 0, count);
  }

  /** Copies the vector at (head, from) of `source`, both (K, n, D), to (head, to) for every head. */
  void copyVectors(TensorMemory source, int from, int to) {
    copyVectors(source, from, to, 1);
  }

  /** Copies `count` neighbouring vectors of every head. */
  void copyVectors(TensorMemory source, int from, int to, int count) {
    int length = shape[2];
    for (int head = 0; head < shape[0]; head++) {
      int start = (head * source.shape[1] + from) * length;
      source.floats.limit(start + count * length).position(start);
      floats.position((head * shape[1] + to) * length);
      floats.put(source.floats);
    }
    source.floats.clear();
  }
}
