package edgemodel.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import edgemodel.LoopbackServer;
import edgemodel.bundle.EdgeBundle;
import java.io.BufferedReader;
import java.io.File;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;

/** What the app finds when the system has killed it: files of a process that is no more. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34)
public final class DeathTest {
  @Rule public final TemporaryFolder temporary = new TemporaryFolder();

  /** Runs a method of DyingApp in another process, kills it in the middle, and takes over its files. */
  private void killed(String method, String... options) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"));
    command.add("-Djava.io.tmpdir=" + temporary.getRoot()); // which it cannot clear
    for (String name : System.getProperties().stringPropertyNames()) {
      if (name.startsWith("robolectric.") || name.equals("bundles")) {
        command.add("-D" + name + "=" + System.getProperty(name));
      }
    }
    command.addAll(List.of(options));
    command.addAll(List.of("-cp", System.getProperty("java.class.path"), Killed.class.getName(), method));
    Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
    String folder;
    try (BufferedReader said = process.inputReader()) {
      String line = said.readLine();
      while (line != null && !line.startsWith(DyingApp.MIDDLE)) {
        line = said.readLine();
      }
      folder = line == null ? null : line.substring(DyingApp.MIDDLE.length());
    } finally {
      process.destroyForcibly().waitFor();
    }
    assertNotNull(method + " never came to the middle", folder);
    Screen.copy(Path.of(folder), Screen.application().getDataDir().toPath());
  }

  @Test
  public void aProcessKilledInAnAnswerLeavesTheChatAndTheQuestion() throws Exception {
    killed("answers");
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      String all = screen.text(R.id.transcript);
      assertTrue(all, all.startsWith("You\nHello\n\nModel\n"));
      assertFalse(all, all.contains("Second"));
      assertEquals("Second", screen.text(R.id.message));
      screen.send(screen.text(R.id.message));
      screen.untilReady();
      assertTrue(screen.text(R.id.transcript).contains("You\nSecond\n\nModel\n"));
      assertEquals("", screen.text(R.id.message));
    }
  }

  @Test
  public void aProcessKilledInAnImportLeavesTheOldModel() throws Exception {
    killed("imports");
    List<String> left = Screen.names(Screen.shelf());
    assertTrue(left.toString(), left.get(0).startsWith(".incoming-"));
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      assertEquals(List.of("qwen3"), Screen.names(Screen.shelf()));
      new EdgeBundle(new File(Screen.shelf(), "qwen3")).verify();
      screen.send("Hello");
      screen.untilReady();
      assertFalse(screen.lastOfTheModel().isEmpty());
    }
  }

  @Test
  public void aProcessKilledInAFetchLeavesTheOldModelAndGoesOn() throws Exception {
    try (LoopbackServer server = new LoopbackServer()) {
      Path folder = temporary.getRoot().toPath().resolve("large");
      ImportScreenTest.large(folder);
      Screen.serve(server, folder);
      server.held = "/model/more.bin";
      server.heldAt = server.files.get(server.held).length / 2;
      killed(
          "fetches",
          "-D" + DyingApp.ADDRESS + "=" + server.address("/model"),
          "-D" + DyingApp.HALF + "=" + server.heldAt);
      server.release();
      try (Screen screen = Screen.open()) {
        screen.untilReady();
        assertEquals(List.of(".download", "qwen3"), Screen.names(Screen.shelf()));
        screen.send("Hello");
        screen.untilReady();
        assertFalse(screen.lastOfTheModel().isEmpty());
        server.asked.clear();
        screen.fetch(null); // the address stands there
        screen.until("the import", () -> !new File(Screen.shelf(), ".download").exists());
        screen.untilReady();
        assertTrue(server.asked.toString(), server.asked.contains("/model/more.bin from " + server.heldAt));
        File kept = new File(Screen.shelf(), "qwen3");
        new EdgeBundle(kept).verify();
        assertTrue(new File(kept, "more.bin").isFile());
      }
    }
  }
}
