package edgemodel.chat;

import edgemodel.bundle.BundleDownload;
import edgemodel.bundle.BundleImport;
import edgemodel.steps.StopSignal;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;

/** One import under way: what brings the bundle, how far it is, and whether it should stop. */
abstract class ModelImport implements StopSignal, BundleImport.Progress {
  private static final long SAID_EACH_BYTES = 4 << 20;

  private volatile boolean stopped;
  private volatile Listener listener;
  private long said;

  /** A zip, which is closed when it has been read. */
  static ModelImport ofZip(final InputStream zip, final long limitBytes) {
    return new ModelImport() {
      @Override
      File run(File shelf) throws IOException {
        try (InputStream closed = zip) {
          return new BundleImport(shelf, limitBytes, this, this).run(closed);
        }
      }
    };
  }

  /** What lies at an address. */
  static ModelImport ofAddress(final String address, final long limitBytes) {
    return new ModelImport() {
      @Override
      File run(File shelf) {
        return new BundleDownload(shelf, limitBytes, this, this).run(address);
      }

      @Override
      boolean keeps(File shelf) {
        return BundleDownload.kept(shelf) != null;
      }
    };
  }

  /**
   * Brings the bundle onto a shelf.
   *
   * @return its folder; null when it was stopped.
   */
  abstract File run(File shelf) throws IOException;

  /** Whether what came before a stop is there for the next try. */
  boolean keeps(File shelf) {
    return false;
  }

  /** Hears lines about the progress. */
  interface Listener {
    void onLine(String line);
  }

  void tell(Listener listener) {
    this.listener = listener;
  }

  void stop() {
    stopped = true;
  }

  @Override
  public boolean stops() {
    return stopped;
  }

  @Override
  public void onBytes(long bytes, long total) {
    if (listener != null && Math.abs(bytes - said) >= SAID_EACH_BYTES) { // less than was said, where a file comes once more
      said = bytes;
      listener.onLine("importing: " + (bytes >> 20) + (total < 0 ? "" : " of " + (total >> 20)) + " MiB");
    }
  }
}
