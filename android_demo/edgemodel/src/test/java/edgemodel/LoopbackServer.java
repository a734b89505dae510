package edgemodel;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Files on this machine's own address, from a server that can be slow, forgetful or wrong. */
public final class LoopbackServer implements AutoCloseable {
  /** What is answered in place of a file. */
  public interface Answer {
    void to(HttpExchange exchange) throws IOException;
  }

  /** By path, such as /model/manifest.json. */
  public final Map<String, byte[]> files = new ConcurrentHashMap<>();

  public final Map<String, Answer> answers = new ConcurrentHashMap<>();

  /** Path, and the byte from which it was asked for, such as "/model/x from 3". */
  public final List<String> asked = new CopyOnWriteArrayList<>();

  /** Whether it knows the header Range. */
  public volatile boolean ranges = true;

  /** A path of which `heldAt` bytes are sent before `release`. */
  public volatile String held = "";

  public volatile int heldAt;

  private final CountDownLatch released = new CountDownLatch(1);
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final HttpServer server;

  public LoopbackServer() throws IOException {
    server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    server.createContext("/", this::answer);
    server.setExecutor(threads);
    server.start();
  }

  public String address(String path) {
    return "http://127.0.0.1:" + server.getAddress().getPort() + path;
  }

  /** Sends what is held back. */
  public void release() {
    released.countDown();
  }

  private void answer(HttpExchange exchange) throws IOException {
    try (exchange) {
      String path = exchange.getRequestURI().getPath();
      String range = exchange.getRequestHeaders().getFirst("Range");
      int from = range == null ? 0 : Integer.parseInt(range.replaceAll("bytes=(\\d+)-", "$1"));
      asked.add(path + " from " + from);
      if (answers.containsKey(path)) {
        answers.get(path).to(exchange);
        return;
      }
      byte[] file = files.get(path);
      if (file == null) {
        exchange.sendResponseHeaders(404, -1);
        return;
      }
      boolean part = range != null && ranges;
      if (part) {
        exchange
            .getResponseHeaders()
            .set("Content-Range", "bytes " + from + "-" + (file.length - 1) + "/" + file.length);
      }
      int start = part ? from : 0;
      int length = file.length - start;
      exchange.sendResponseHeaders(part ? 206 : 200, length == 0 ? -1 : length);
      send(exchange, path, file, start);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
  }

  private void send(HttpExchange exchange, String path, byte[] file, int start)
      throws IOException, InterruptedException {
    OutputStream out = exchange.getResponseBody();
    int first = path.equals(held) && released.getCount() > 0 ? Math.max(start, heldAt) : file.length;
    out.write(file, start, first - start);
    out.flush();
    if (first < file.length) {
      released.await();
      out.write(file, first, file.length - first);
    }
  }

  @Override
  public void close() {
    release();
    server.stop(0);
    threads.shutdownNow();
  }
}
