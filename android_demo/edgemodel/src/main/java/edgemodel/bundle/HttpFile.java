package edgemodel.bundle;

import edgemodel.EdgeModelException;
import edgemodel.steps.StopSignal;
import java.io.Closeable;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;

/**
 * One file of a server, whole or from a byte on. It asks the address that it is given and no other: what
 * leads elsewhere is refused, and no cookie, cache or name of a user is sent.
 */
final class HttpFile implements Closeable {
  /** How long a server may say nothing; after a stop it is this long at most until the stop is seen. */
  private static final int PATIENCE_MS = 10_000;

  private static final int SHOWN_ADDRESS = 200;

  /** The byte that comes first: the one that was asked for, or 0 from servers that give whole files only. */
  final long start;

  /** Bytes that the server says will come; -1 where it does not say. */
  final long length;

  final InputStream stream;

  private final HttpURLConnection connection;

  private HttpFile(HttpURLConnection connection, long start, StopSignal signal) throws IOException {
    this.connection = connection;
    this.start = start;
    length = connection.getContentLengthLong();
    stream = new Stoppable(connection.getInputStream(), signal);
  }

  /** Ends what is read when the signal says so: a reader of a slow body, or of a zip of nothing, does not look. */
  private static final class Stoppable extends FilterInputStream {
    private final StopSignal signal;

    Stoppable(InputStream from, StopSignal signal) {
      super(from);
      this.signal = signal;
    }

    @Override
    public int read() throws IOException {
      expectGoOn();
      return in.read();
    }

    @Override
    public int read(byte[] into, int start, int count) throws IOException {
      expectGoOn();
      return in.read(into, start, count);
    }

    private void expectGoOn() throws IOException {
      if (signal.stops()) {
        throw new IOException("it was stopped");
      }
    }
  }

  /**
   * Asks for a file.
   *
   * @param from the first byte that is wanted.
   * @param signal ends `stream` with an IOException.
   * @return null where the server has no such file.
   * @throws EdgeModelException kind BUNDLE: the server refuses, or leads to another address.
   * @throws IOException it cannot be reached.
   */
  static HttpFile open(URI address, long from, StopSignal signal) throws IOException {
    HttpURLConnection connection = (HttpURLConnection) address.toURL().openConnection();
    boolean open = false;
    try {
      connection.setInstanceFollowRedirects(false);
      connection.setUseCaches(false);
      connection.setConnectTimeout(PATIENCE_MS);
      connection.setReadTimeout(PATIENCE_MS);
      connection.setRequestProperty("Accept-Encoding", "identity"); // else lengths are those of something packed
      if (from > 0) {
        connection.setRequestProperty("Range", "bytes=" + from + "-");
      }
      int status = connection.getResponseCode();
      if (from > 0 && !goesOn(connection, status, from) && status != HttpURLConnection.HTTP_OK) {
        connection.disconnect();
        return open(address, 0, signal);
      }
      if (status == HttpURLConnection.HTTP_NOT_FOUND) {
        return null;
      }
      expectFile(address, connection, status);
      HttpFile file = new HttpFile(connection, status == HttpURLConnection.HTTP_PARTIAL ? from : 0, signal);
      open = true;
      return file;
    } finally {
      if (!open) {
        connection.disconnect();
      }
    }
  }

  private static boolean goesOn(HttpURLConnection connection, int status, long from) {
    String range = connection.getHeaderField("Content-Range");
    return status == HttpURLConnection.HTTP_PARTIAL && range != null && range.startsWith("bytes " + from + "-");
  }

  private static void expectFile(URI address, HttpURLConnection connection, int status) {
    if (status >= HttpURLConnection.HTTP_MULT_CHOICE && status < HttpURLConnection.HTTP_BAD_REQUEST) {
      throw EdgeModelException.bundle(
          address + " leads to " + shown(connection.getHeaderField("Location"))
              + ", which nobody typed; type that address if you trust it");
    }
    if (status != HttpURLConnection.HTTP_OK && status != HttpURLConnection.HTTP_PARTIAL) {
      throw EdgeModelException.bundle("the server answers " + address + " with " + status + "; look there");
    }
  }

  private static String shown(String address) {
    String text = address == null ? "nowhere" : address;
    return text.length() > SHOWN_ADDRESS ? text.substring(0, SHOWN_ADDRESS) + ".." : text;
  }

  @Override
  public void close() {
    connection.disconnect();
  }
}
