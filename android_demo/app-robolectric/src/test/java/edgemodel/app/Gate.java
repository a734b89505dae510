package edgemodel.app;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.CountDownLatch;

/** A file from a provider that is slow: a part comes at once, the rest when it is let through. */
final class Gate extends InputStream {
  private final ByteArrayInputStream bytes;
  private final int closedAt;
  private final CountDownLatch open = new CountDownLatch(1);
  private int read;

  Gate(byte[] all, int closedAt) {
    bytes = new ByteArrayInputStream(all);
    this.closedAt = closedAt;
  }

  /** Lets the rest through. */
  void open() {
    open.countDown();
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
  }

  @Override
  public int read(byte[] into, int start, int length) throws IOException {
    int left = closedAt - read;
    if (left <= 0) {
      try {
        open.await();
      } catch (InterruptedException error) {
        throw new IOException(error);
      }
    }
    int count = bytes.read(into, start, left > 0 ? Math.min(left, length) : length);
    read += Math.max(count, 0);
    return count;
  }
}
