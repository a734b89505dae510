package edgemodel.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertTrue;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import edgemodel.bundle.EdgeBundle;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;

/** Models that come from a file, on the app's screen. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34)
public final class ImportScreenTest {
  /** Progress is said once for each 4 MiB; a tiny bundle has less. */
  private static final int MORE_BYTES = 10 << 20;

  @Rule public final TemporaryFolder temporary = new TemporaryFolder();

  /** The tiny bundle with one more file in its manifest, which no chunk of a zip makes smaller. */
  static byte[] large(Path folder) throws Exception {
    Screen.copy(Screen.bundle(), folder);
    byte[] more = new byte[MORE_BYTES];
    new Random(3).nextBytes(more);
    Files.write(folder.resolve("more.bin"), more);
    byte[] digest = MessageDigest.getInstance("SHA-256").digest(more);
    Path file = folder.resolve("manifest.json");
    JsonObject manifest = Json.parse(Files.readString(file)).asObject();
    manifest
        .get("files")
        .asObject()
        .add(
            "more.bin",
            Json.object()
                .add("sha256", String.format("%064x", new BigInteger(1, digest)))
                .add("size_bytes", more.length));
    Files.writeString(file, manifest.toString());
    return Screen.zip(folder);
  }

  @Test
  public void aModelIsImportedWithProgressAndAnswers() throws Exception {
    byte[] zip = large(temporary.getRoot().toPath().resolve("large"));
    Gate file = new Gate(zip, zip.length * 3 / 4);
    try (Screen screen = Screen.open()) {
      screen.untilItSays("no model yet");
      assertFalse(screen.view(R.id.send).isEnabled());
      assertFalse(screen.visible(R.id.progress));
      screen.pick(file);
      screen.until("progress", () -> screen.text(R.id.state).matches("(?s)importing: [4-9] MiB\n.*"));
      assertTrue(screen.visible(R.id.progress));
      assertTrue(screen.visible(R.id.stop));
      assertFalse(screen.visible(R.id.send));
      file.open();
      screen.untilReady();
      assertFalse(screen.visible(R.id.progress));
      assertTrue(screen.text(R.id.state), screen.text(R.id.state).contains("ONNX Runtime"));
      assertEquals(1, Screen.names(Screen.shelf()).size());
      screen.send("Hello");
      screen.untilReady();
      assertFalse(screen.lastOfTheModel().isEmpty());
    }
  }

  @Test
  public void stopEndsAnImportAndLeavesNothing() throws Exception {
    byte[] zip = Screen.zip(Screen.bundle());
    Gate file = new Gate(zip, zip.length / 2);
    try (Screen screen = Screen.open()) {
      screen.untilItSays("no model yet");
      screen.pick(file);
      screen.until("an import", () -> screen.visible(R.id.stop));
      assertTrue(screen.view(R.id.stop).performClick());
      file.open();
      screen.untilItSays("the import was stopped");
      assertEquals(List.of(), Screen.names(Screen.shelf()));
      screen.pick(new ByteArrayInputStream(zip));
      screen.untilReady();
    }
  }

  @Test
  public void whatIsNoBundleIsSaidAndTheModelStays() throws Exception {
    byte[] zip = Screen.zip(Screen.bundle());
    Screen.shelve();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.pick(new ByteArrayInputStream(Arrays.copyOf(zip, zip.length / 2)));
      screen.untilItSays("the bundle cannot be unpacked");
      screen.pick(new ByteArrayInputStream(new byte[100]));
      screen.untilItSays("no manifest.json");
      assertEquals(List.of("qwen3"), Screen.names(Screen.shelf()));
      new EdgeBundle(new File(Screen.shelf(), "qwen3")).verify();
      screen.send("Hello");
      screen.untilReady();
      assertFalse(screen.lastOfTheModel().isEmpty());
    }
  }
}
