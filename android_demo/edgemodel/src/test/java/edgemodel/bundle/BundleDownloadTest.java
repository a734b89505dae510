package edgemodel.bundle;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import com.sun.net.httpserver.HttpServer;
import edgemodel.EdgeModelException;
import edgemodel.LoopbackServer;
import edgemodel.steps.StopSignal;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class BundleDownloadTest {
  private static final long LIMIT = 4 << 20;
  private static final int MORE_BYTES = 1 << 20;
  private static final String MORE = "/model/variants/ä #?%.bin";

  @TempDir Path folder;
  private LoopbackServer server;
  private String address;

  /** Downloads what an address has: a process to be killed. */
  static final class Process {
    private Process() {}

    public static void main(String[] arguments) {
      new BundleDownload(new File(arguments[0]), LIMIT, () -> false, null).run(arguments[1]);
    }
  }

  @BeforeEach
  void serve() throws Exception {
    server = new LoopbackServer();
    address = server.address("/model");
    byte[] more = new byte[MORE_BYTES];
    new Random(5).nextBytes(more);
    server.files.put(MORE, more);
    String name = MORE.substring("/model/".length());
    EdgeBundle bundle = TinyBundle.write(folder.resolve("source"), manifest -> list(manifest, name, more));
    for (File file : bundle.folder.listFiles()) {
      server.files.put("/model/" + file.getName(), Files.readAllBytes(file.toPath()));
    }
  }

  @AfterEach
  void end() {
    server.close();
  }

  private static void list(JsonObject manifest, String name, byte[] content) {
    try {
      String digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
      JsonObject record = new JsonObject().add("sha256", digest).add("size_bytes", content.length);
      manifest.get("files").asObject().set(name, record);
    } catch (java.security.NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  private void changeManifest(java.util.function.Consumer<JsonObject> change) {
    byte[] before = server.files.get("/model/manifest.json");
    JsonObject manifest = Json.parse(new String(before, StandardCharsets.UTF_8)).asObject();
    change.accept(manifest);
    server.files.put("/model/manifest.json", manifest.toString().getBytes(StandardCharsets.UTF_8));
  }

  private File shelf() {
    return folder.resolve("shelf").toFile();
  }

  private TreeSet<String> names() {
    String[] found = shelf().list();
    return new TreeSet<>(Arrays.asList(found == null ? new String[0] : found));
  }

  private File run() {
    return run(address);
  }

  private File run(String typed) {
    return new BundleDownload(shelf(), LIMIT, () -> false, null).run(typed);
  }

  /** Stops after the first piece of what follows so many bytes. */
  private void stopAfter(long bytes) {
    AtomicBoolean stops = new AtomicBoolean();
    assertNull(
        new BundleDownload(shelf(), LIMIT, stops::get, (count, total) -> stops.set(count > bytes)).run(address));
  }

  private void expectWhole(File found) throws IOException {
    assertEquals("tiny", found.getName());
    EdgeBundle bundle = new EdgeBundle(found);
    bundle.verify();
    assertTrue(bundle.chatFormat() != null);
    Path more = found.toPath().resolve(MORE.substring("/model/".length()));
    assertArrayEquals(server.files.get(MORE), Files.readAllBytes(more));
    assertEquals(new TreeSet<>(List.of("tiny")), names());
    assertNull(BundleDownload.kept(shelf()));
  }

  @Test
  void aFolderComesWithProgressByAnyOfItsAddresses() throws Exception {
    for (String typed : new String[] {address, address + "/", " " + address + "/manifest.json\n"}) {
      List<Long> counts = new ArrayList<>();
      long whole = MORE_BYTES + server.files.get("/model/tokenizer.json").length;
      BundleImport.Progress progress =
          (bytes, total) -> {
            assertEquals(whole, total);
            counts.add(bytes);
          };
      expectWhole(new BundleDownload(shelf(), LIMIT, () -> false, progress).run(typed));
      assertEquals(whole, counts.get(counts.size() - 1));
      assertEquals(new ArrayList<>(new TreeSet<>(counts)), counts.stream().distinct().toList()); // it only grows
    }
  }

  @Test
  void aZipComesToo() throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(out)) {
      for (String name : List.copyOf(server.files.keySet())) {
        zip.putNextEntry(new ZipEntry(name.substring("/model/".length())));
        zip.write(server.files.get(name));
      }
    }
    server.files.put("/model.zip", out.toByteArray());
    expectWhole(run(server.address("/model.zip")));
    server.files.put("/cut.zip", Arrays.copyOf(out.toByteArray(), out.size() / 2));
    refused("cannot be unpacked", () -> run(server.address("/cut.zip")));
    assertEquals(new TreeSet<>(List.of("tiny")), names());
  }

  @Test
  void whatWasStoppedGoesOnAtItsByte() throws Exception {
    stopAfter(MORE_BYTES / 2);
    assertEquals(new TreeSet<>(List.of(".download")), names());
    assertEquals(address + "/", BundleDownload.kept(shelf()));
    BundleImport.recover(shelf());
    assertEquals(0, BundleImport.bundles(shelf()).length);
    server.asked.clear();
    expectWhole(run());
    String from = server.asked.stream().filter(each -> each.startsWith(MORE)).findFirst().orElseThrow();
    int before = server.files.get("/model/tokenizer.json").length; // which counts, too
    assertTrue(Integer.parseInt(from.substring((MORE + " from ").length())) > MORE_BYTES / 2 - before, from);
  }

  @Test
  void aServerThatGivesWholeFilesOnlyIsTakenFromTheBeginning() throws Exception {
    server.ranges = false;
    stopAfter(MORE_BYTES / 2);
    expectWhole(run());
  }

  @Test
  void aKilledDownloadGoesOn() throws Exception {
    server.held = MORE;
    server.heldAt = MORE_BYTES / 2;
    java.lang.Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                System.getProperty("java.class.path"),
                Process.class.getName(),
                shelf().getPath(),
                address)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    try {
      Path more = shelf().toPath().resolve(".download/bundle").resolve(MORE.substring("/model/".length()));
      while (process.isAlive() && (!Files.exists(more) || Files.size(more) < MORE_BYTES / 2)) {
        TimeUnit.MILLISECONDS.sleep(1);
      }
      assertTrue(process.isAlive());
    } finally {
      process.destroyForcibly().waitFor();
    }
    server.release();
    BundleImport.recover(shelf());
    assertEquals(0, BundleImport.bundles(shelf()).length);
    server.asked.clear();
    expectWhole(run(BundleDownload.kept(shelf())));
    assertTrue(server.asked.contains(MORE + " from " + MORE_BYTES / 2), server.asked.toString());
  }

  @Test
  void whatWasSpoiltMeanwhileComesAgainOnce() throws Exception {
    stopAfter(MORE_BYTES / 2);
    Path more = shelf().toPath().resolve(".download/bundle").resolve(MORE.substring("/model/".length()));
    byte[] spoilt = Files.readAllBytes(more);
    spoilt[100] ^= 1;
    Files.write(more, spoilt);
    server.asked.clear();
    expectWhole(run());
    assertTrue(server.asked.contains(MORE + " from 0"), server.asked.toString());
  }

  @Test
  void anotherManifestOrAddressStartsOver() throws Exception {
    stopAfter(MORE_BYTES / 2);
    byte[] others = server.files.get(MORE).clone();
    others[0] ^= 1;
    server.files.put(MORE, others);
    changeManifest(manifest -> list(manifest, MORE.substring("/model/".length()), others));
    server.asked.clear();
    expectWhole(run());
    assertTrue(server.asked.contains(MORE + " from 0"), server.asked.toString());
    stopAfter(MORE_BYTES / 2);
    server.files.forEach((name, data) -> server.files.put(name.replace("/model/", "/other/"), data));
    server.asked.clear();
    expectWhole(run(server.address("/other")));
    assertTrue(server.asked.contains(MORE.replace("/model/", "/other/") + " from 0"), server.asked.toString());
  }

  @Test
  void whatCannotGoOnIsCleared() throws Exception {
    stopAfter(MORE_BYTES / 2);
    File from = new File(shelf(), ".download/from.txt");
    assertTrue(from.setLastModified(System.currentTimeMillis() - TimeUnit.DAYS.toMillis(8)));
    BundleImport.recover(shelf());
    assertEquals(new TreeSet<>(), names());
    stopAfter(MORE_BYTES / 2);
    Files.delete(from.toPath());
    BundleImport.recover(shelf());
    assertEquals(new TreeSet<>(), names());
  }

  @Test
  void filesThatAreNotTheManifestsAreRefused() throws Exception {
    byte[] good = server.files.get(MORE);
    byte[] flipped = good.clone();
    flipped[MORE_BYTES - 1] ^= 1;
    server.files.put(MORE, flipped);
    refused("is not the file that the manifest describes", this::run);
    assertEquals(0, BundleImport.bundles(shelf()).length);
    server.files.put(MORE, Arrays.copyOf(good, MORE_BYTES - 1));
    refused("has 1048575 bytes, the manifest says 1048576", this::run);
    server.answers.put(
        MORE,
        exchange -> { // a length that nobody says, and no end of bytes
          exchange.sendResponseHeaders(200, 0);
          exchange.getResponseBody().write(good);
          exchange.getResponseBody().write(good);
        });
    refused("has more than the 1048576 bytes", this::run);
    BundleImport.delete(new File(shelf(), ".download")); // its beginning was the whole file
    server.answers.put(
        MORE,
        exchange -> {
          exchange.sendResponseHeaders(200, 0);
          exchange.getResponseBody().write(good, 0, 100);
        });
    refused("cannot be fetched", this::run);
    server.answers.clear();
    server.files.remove(MORE);
    refused("the server has no " + server.address("/model/variants/"), this::run);
    server.files.put(MORE, good);
    expectWhole(run());
  }

  @Test
  void manifestsThatAskForTooMuchAreRefusedBeforeAnythingComes() throws Exception {
    byte[] good = server.files.get("/model/manifest.json");
    refused("has more than 0 MiB", () -> new BundleDownload(shelf(), 1000, () -> false, null).run(address));
    for (String name : new String[] {"../x", "/x", "a\\x", "C:x", "manifest.json", "chat_format.json"}) {
      changeManifest(manifest -> list(manifest, name, new byte[1]));
      assertThrows(EdgeModelException.class, this::run, name);
      server.files.put("/model/manifest.json", good);
    }
    changeManifest(manifest -> list(manifest, "x/".repeat(10) + "x", new byte[1]));
    refused("longer or deeper", this::run);
    changeManifest(manifest -> list(manifest, "tokenizer.json/x", new byte[1]));
    assertThrows(EdgeModelException.class, this::run);
    server.files.put("/model/manifest.json", good);
    changeManifest(
        manifest -> {
          for (int i = 0; i < 3; i++) { // their sum leaves a long
            JsonObject record = new JsonObject().add("sha256", "0".repeat(64)).add("size_bytes", Long.MAX_VALUE);
            manifest.get("files").asObject().set("x" + i, record);
          }
        });
    refused("has more than 4 MiB", this::run);
    server.files.put("/model/manifest.json", "nonsense".getBytes(StandardCharsets.UTF_8));
    refused("is not JSON", this::run);
    server.files.put("/model/manifest.json", new byte[(16 << 20) + 1]);
    refused("more than 16 MiB", this::run);
    server.files.put("/model/manifest.json", good);
    server.files.put("/model/chat_format.json", "{".getBytes(StandardCharsets.UTF_8));
    assertThrows(EdgeModelException.class, this::run);
    assertEquals(0, BundleImport.bundles(shelf()).length);
  }

  @Test
  void aStopEndsWhatAServerDripsOrNeverEnds() throws Exception {
    AtomicBoolean toItsEnd = new AtomicBoolean();
    byte[] nothing = {0, 0, 0, (byte) 0xff, (byte) 0xff}; // a block of a zip that holds no bytes
    LoopbackServer.Answer drips =
        exchange -> {
          exchange.sendResponseHeaders(200, 0);
          if (exchange.getRequestURI().getPath().endsWith(".zip")) {
            byte[] header = new byte[31]; // of a local file named x, deflated, sizes not known
            byte[] beginning = {'P', 'K', 3, 4, 20, 0, 8, 0, 8, 0};
            System.arraycopy(beginning, 0, header, 0, beginning.length);
            header[26] = 1;
            header[30] = 'x';
            exchange.getResponseBody().write(header);
          }
          try {
            for (int i = 0; i < 100; i++) {
              exchange.getResponseBody().write(nothing);
              exchange.getResponseBody().flush();
              TimeUnit.MILLISECONDS.sleep(20);
            }
            toItsEnd.set(true);
          } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
          }
        };
    for (String path : new String[] {"/model/manifest.json", "/model/chat_format.json", "/model.zip"}) {
      server.answers.put(path, drips);
      long begin = System.nanoTime();
      StopSignal soon = () -> System.nanoTime() - begin > TimeUnit.MILLISECONDS.toNanos(200);
      String typed = path.endsWith(".zip") ? server.address(path) : address;
      assertNull(new BundleDownload(shelf(), LIMIT, soon, null).run(typed), path);
      assertTrue(!toItsEnd.get(), path);
      server.answers.remove(path);
    }
    assertEquals(0, BundleImport.bundles(shelf()).length);
  }

  @Test
  void namesAreAskedForByTheirOwnBytes() throws Exception {
    byte[] one = {1};
    for (String name : new String[] {"variants/a\u0308.bin", "a+b[c]%41~.x"}) {
      server.files.put("/model/" + name, one); // the first is no composed letter
      changeManifest(manifest -> list(manifest, name, one));
    }
    expectWhole(run());
    changeManifest(manifest -> list(manifest, "\ud800", one));
    refused("the server has no", this::run);
  }

  @Test
  void whatStrangersNameStaysOneLine() throws Exception {
    byte[] good = server.files.get("/model/manifest.json");
    for (String name : new String[] {"a\nb\r\u2028c:d", "x".repeat(1 << 20)}) {
      changeManifest(manifest -> manifest.add(name, 1));
      EdgeModelException error = assertThrows(EdgeModelException.class, this::run);
      assertEquals(1, error.getMessage().lines().count());
      assertTrue(error.getMessage().indexOf('\u2028') < 0 && error.getMessage().length() < 4000);
      server.files.put("/model/manifest.json", good);
    }
  }

  @Test
  void onlyTheTypedAddressIsAsked() throws Exception {
    AtomicBoolean asked = new AtomicBoolean();
    HttpServer other = HttpServer.create(new java.net.InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
    other.createContext("/", exchange -> asked.set(true));
    other.start();
    try {
      String elsewhere = "http://127.0.0.1:" + other.getAddress().getPort() + "/x";
      for (int status : new int[] {301, 302, 303, 307, 308}) {
        server.answers.put(
            "/model/manifest.json",
            exchange -> {
              exchange.getResponseHeaders().set("Location", elsewhere);
              exchange.sendResponseHeaders(status, -1);
            });
        refused("leads to " + elsewhere, this::run);
      }
      server.answers.put("/model/manifest.json", exchange -> exchange.sendResponseHeaders(500, -1));
      refused("with 500", this::run);
    } finally {
      other.stop(0);
    }
    assertTrue(!asked.get());
  }

  @Test
  void whatIsNoAddressIsSaidInALine() throws Exception {
    String[][] odd = {
      {"", "there is no address"}, {"192.168.1.5:8000", "no address"}, {"localhost/model", "no address of http"},
      {"file:///etc/passwd", "no address of http"}, {"ftp://host/x", "no address of http"},
      {"http://", "no address"}, {"http://a b/c", "no address"}, {"http://user:word@host/x", "a user"},
      {"http://host/x#y", "a #"}, {"http://host/x?y", "a ?"}, {"http://" + "x".repeat(3000), "more than 2000"},
      {"http://127.0.0.1:99999/model", "a port above 65535"}
    };
    for (String[] pair : odd) {
      refused(pair[1], () -> run(pair[0]));
      refused("type it as", () -> run(pair[0]));
    }
    int closed;
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      closed = socket.getLocalPort();
    }
    refused("cannot be fetched", () -> run("http://127.0.0.1:" + closed + "/model"));
    refused("no such host", () -> run("http://nobody.invalid/model"));
    assertEquals(new TreeSet<>(), names());
  }
}
