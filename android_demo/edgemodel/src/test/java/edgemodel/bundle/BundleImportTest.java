package edgemodel.bundle;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import edgemodel.EdgeModelException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class BundleImportTest {
  private static final long LIMIT = 1 << 20;

  /** Bytes before the first name of a zip. */
  private static final int LOCAL_HEADER = 30;

  @TempDir Path folder;

  /** Imports what stands on its standard input onto a shelf: a process to be killed. */
  static final class Process {
    private Process() {}

    public static void main(String[] arguments) {
      new BundleImport(new File(arguments[0]), LIMIT, () -> false, null).run(System.in);
    }
  }

  private File shelf() {
    return folder.resolve("shelf").toFile();
  }

  private Map<String, byte[]> files(String prefix) throws Exception {
    EdgeBundle bundle = TinyBundle.write(folder.resolve("source"), manifest -> {});
    Map<String, byte[]> files = new LinkedHashMap<>();
    for (File file : bundle.folder.listFiles()) {
      files.put(prefix + file.getName(), Files.readAllBytes(file.toPath()));
    }
    return files;
  }

  private static byte[] zip(Map<String, byte[]> files) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(out)) {
      for (Map.Entry<String, byte[]> file : files.entrySet()) {
        zip.putNextEntry(new ZipEntry(file.getKey()));
        zip.write(file.getValue());
      }
    }
    return out.toByteArray();
  }

  private File run(byte[] zip, long limit) {
    return new BundleImport(shelf(), limit, () -> false, null).run(new ByteArrayInputStream(zip));
  }

  private TreeSet<String> names() {
    return new TreeSet<>(Arrays.asList(shelf().list()));
  }

  @Test
  void aBundleComesWithOrWithoutItsFolderAndReplacesOneOfItsName() throws Exception {
    for (String prefix : new String[] {"", "some folder/"}) {
      File found = run(zip(files(prefix)), LIMIT);
      assertEquals("tiny", found.getName());
      new EdgeBundle(found).verify();
      assertEquals(new TreeSet<>(Arrays.asList("tiny")), names());
      assertArrayEquals(new File[] {found}, BundleImport.bundles(shelf()));
    }
  }

  @Test
  void whatIsNoWholeBundleLeavesTheShelfAsItWas() throws Exception {
    run(zip(files("")), LIMIT);
    byte[] tokenizer = files("").get("tokenizer.json");
    byte[] flipped = tokenizer.clone();
    flipped[100] ^= 1;
    String[] odd = {"../x", "/x", "a/../../x", "a\\x", "C:x"};
    for (String name : odd) {
      changed("no name within a bundle", name, new byte[1]);
    }
    StringBuilder deep = new StringBuilder("x");
    for (int i = 0; i < 1900; i++) {
      deep.append("/x");
    }
    changed("longer or deeper", deep.toString(), new byte[1]);
    changed("longer or deeper", "x/".repeat(10) + "x", new byte[1]);
    changed("does not list", "extra.bin", new byte[1]);
    changed("not the file that the manifest describes", "tokenizer.json", flipped);
    changed("the manifest says", "tokenizer.json", new byte[5]);
    changed("is not JSON", "manifest.json", "nonsense".getBytes(StandardCharsets.UTF_8));
    refused("no manifest.json", () -> run(new byte[0], LIMIT));
    refused("no manifest.json", () -> run("no zip at all".getBytes(StandardCharsets.UTF_8), LIMIT));
    byte[] whole = zip(files(""));
    for (int length = 0; length < whole.length - 1; length += 97) {
      byte[] cut = Arrays.copyOf(whole, length);
      try {
        run(cut, LIMIT);
      } catch (EdgeModelException error) {
        assertTrue(error.getMessage().contains(";"), error.getMessage());
      }
      // Cut in the directory at its end, which is not read, it is whole.
      assertEquals(new TreeSet<>(Arrays.asList("tiny")), names());
    }
    refused("unpacks to more than", () -> run(whole, 1000));
    BundleImport stopped = new BundleImport(shelf(), LIMIT, () -> true, null);
    assertNull(stopped.run(new ByteArrayInputStream(whole)));
    assertEquals(new TreeSet<>(Arrays.asList("tiny")), names());
    new EdgeBundle(new File(shelf(), "tiny")).verify();
  }

  private void changed(String needle, String name, byte[] content) throws Exception {
    Map<String, byte[]> files = files("");
    files.put(name, content);
    refused(needle, () -> run(zip(files), LIMIT));
    assertEquals(new TreeSet<>(Arrays.asList("tiny")), names());
  }

  /** What ZipInputStream passes by itself is unpacked, too. */
  @Test
  void aFolderWithContentIsNotUnpacked() throws Exception {
    byte[] zip = zip(Map.of("folderX", new byte[1 << 20]));
    zip[LOCAL_HEADER + "folder".length()] = '/';
    refused("a folder with content", () -> run(zip, LIMIT));
    assertEquals(new TreeSet<>(), names());
  }

  @Test
  void namesThatAreNotUtf8AreRefused() throws Exception {
    byte[] zip = zip(Map.of("\u00e4\u00e4", new byte[1]));
    zip[LOCAL_HEADER] = (byte) 0xFF;
    refused("cannot be unpacked", () -> run(zip, LIMIT));
    assertEquals(new TreeSet<>(), names());
  }

  @Test
  void namesWithTheSameLettersDoNotReplaceEachOther() throws Exception {
    for (int round = 0; round < 2; round++) {
      assertEquals("__", run(named("\u6a21\u578b"), LIMIT).getName());
      assertEquals("__-2", run(named("\u52a9\u624b"), LIMIT).getName());
    }
    assertEquals(new TreeSet<>(Arrays.asList("__", "__-2")), names());
  }

  private byte[] named(String name) throws Exception {
    Map<String, byte[]> files = files("");
    JsonObject manifest = Json.parse(new String(files.get("manifest.json"), StandardCharsets.UTF_8)).asObject();
    files.put("manifest.json", manifest.set("name", name).toString().getBytes(StandardCharsets.UTF_8));
    return zip(files);
  }

  @Test
  void namesBecomeFoldersOfTheShelf() throws Exception {
    for (String[] pair : new String[][] {{"a b/../c", "a_b_.._c"}, {"..x", "x"}}) {
      assertEquals(pair[1], run(named(pair[0]), LIMIT).getName());
    }
  }

  private static String classPath(Class<?>... classes) throws Exception {
    List<String> places = new ArrayList<>();
    for (Class<?> one : classes) {
      places.add(Path.of(one.getProtectionDomain().getCodeSource().getLocation().toURI()).toString());
    }
    return String.join(File.pathSeparator, places);
  }

  @Test
  void aKilledImportLeavesAWholeShelf() throws Exception {
    byte[] whole = zip(files(""));
    java.lang.Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                classPath(BundleImport.class, BundleImportTest.class, Json.class),
                "edgemodel.bundle.BundleImportTest$Process",
                shelf().getPath())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    try (OutputStream input = process.getOutputStream()) {
      input.write(whole, 0, whole.length / 2);
      input.flush();
      while (process.isAlive() && (shelf().list() == null || shelf().list().length == 0)) {
        Thread.onSpinWait();
      }
      assertTrue(process.isAlive());
      process.destroyForcibly().waitFor();
    } catch (IOException error) {
      assertTrue(error.getMessage() != null); // closing the pipe of a process that is gone
    }
    assertTrue(names().first().startsWith(".incoming-"));
    assertEquals(0, BundleImport.bundles(shelf()).length);
    BundleImport.recover(shelf());
    assertEquals(0, shelf().list().length);
    // Between the two renames of a replacement.
    File found = run(whole, LIMIT);
    assertTrue(found.renameTo(new File(shelf(), ".replaced-tiny")));
    BundleImport.recover(shelf());
    new EdgeBundle(new File(shelf(), "tiny")).verify();
    assertEquals(new TreeSet<>(Arrays.asList("tiny")), names());
  }
}
