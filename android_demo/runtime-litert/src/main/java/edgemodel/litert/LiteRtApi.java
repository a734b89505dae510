package edgemodel.litert;

import java.nio.ByteBuffer;

/**
 * LiteRT's C functions, by whatever reaches C: JniLiteRt on a phone, and ForeignLiteRt on the desktop. Handles
 * are addresses, which may be negative; statuses are LiteRT's, 0 for success.
 */
public interface LiteRtApi {
  /** LiteRtElementType. */
  int FLOAT32 = 1;

  int INT32 = 2;

  /** Of a shape; what LiteRtLayout has room for. */
  int MOST_DIMENSIONS = 8;

  /** LiteRT refuses host memory that does not start at whole lines. */
  int ALIGNMENT_BYTES = 64;

  /** Zeros that start at a whole line and keep their address, freed when nobody refers to them. */
  ByteBuffer allocate(int bytes);

  /**
   * Opens a file.
   *
   * @param xnnpack XNNPACK's options, in TOML.
   * @throws edgemodel.EdgeModelException kind DEVICE: LiteRT refuses it.
   */
  Opened open(String file, String xnnpack);

  /**
   * A buffer over memory with its shape (docs/decisions/0002); destroy it, the memory stays.
   *
   * @throws edgemodel.EdgeModelException kind DEVICE: LiteRT refuses it.
   */
  long buffer(int elementType, int[] shape, ByteBuffer memory);

  void destroyBuffer(long buffer);

  /** A descriptor of memory with the name of a file; negative where the system has none. */
  int createMemoryFile();

  void closeMemoryFile(int descriptor);

  /** A file that is open. */
  interface Opened {
    int signatures();

    String key(int signature);

    String[] inputs(int signature);

    String[] outputs(int signature);

    /** Shape of an input, as the library describes it; empty where it does not. */
    int[] inputShape(int signature, int place);

    /** Gives an input another shape. Returns the status. */
    int resize(int signature, int place, int[] dimensions);

    /** Runs a signature over arrays of buffers, eight bytes each. Returns the status. */
    int run(int signature, int inputs, ByteBuffer in, int outputs, ByteBuffer out);

    void close();
  }
}
