package edgemodel.chat;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import edgemodel.EdgeModel;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.TinyBundle;
import edgemodel.device.Heat;
import edgemodel.device.ThermalGovernor;
import edgemodel.text.ChatMessage;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class ChatTest {
  private static final String MIDDLE = "in the middle";

  @TempDir Path folder;

  /** `Process FOLDER`: answers a message, and stands still in the middle of it until it is killed. */
  static final class Process {
    private Process() {}

    public static void main(String[] arguments) throws InterruptedException {
      Path folder = Path.of(arguments[0]);
      AtomicReference<Heat> heat = new AtomicReference<>(Heat.SERIOUS); // which gives time for what follows
      ThermalGovernor governor =
          new ThermalGovernor(
              new ThermalGovernor.Device() {
                @Override
                public Heat heat() {
                  return heat.get();
                }

                @Override
                public boolean savesPower() {
                  return false;
                }
              },
              20,
              0,
              10);
      LinkedBlockingQueue<Runnable> posted = new LinkedBlockingQueue<>();
      List<ChatState> shown = new ArrayList<>();
      ChatController chat =
          new ChatController(
              folder.resolve("shelf").toFile(),
              new ChatStore(folder.resolve("chat.json").toFile()),
              bundle -> {
                EdgeModel model = TinyBundle.load(bundle);
                model.setGovernor(governor);
                return model;
              },
              posted::add,
              shown::add);
      chat.start();
      boolean sent = false;
      while (true) {
        posted.take().run();
        ChatState state = shown.get(shown.size() - 1);
        if (state.canSend() && !sent) {
          chat.send("Second");
          sent = true;
        } else if (!state.answer.isEmpty() && heat.getAndSet(Heat.CRITICAL) == Heat.SERIOUS) {
          System.out.println(MIDDLE);
        }
      }
    }
  }

  /** The test's thread is the screen's: it runs what is posted until something is shown. */
  private final LinkedBlockingQueue<Runnable> posted = new LinkedBlockingQueue<>();

  private final List<ChatState> shown = new ArrayList<>();

  private ChatController controller() {
    ChatStore store = new ChatStore(folder.resolve("chat.json").toFile());
    return new ChatController(shelf(), store, TinyBundle::load, posted::add, shown::add);
  }

  private File shelf() {
    return folder.resolve("shelf").toFile();
  }

  private ChatState until(ChatState.Phase phase) throws InterruptedException {
    while (shown.isEmpty() || shown.get(shown.size() - 1).phase != phase) {
      Runnable next = posted.poll(30, TimeUnit.SECONDS);
      assertNotNull(next, "nothing happens; last shown: " + (shown.isEmpty() ? "nothing" : shown.get(shown.size() - 1).status));
      next.run();
    }
    return shown.get(shown.size() - 1);
  }

  private EdgeBundle bundle() throws Exception {
    return TinyBundle.write(folder.resolve("shelf").resolve("tiny"), manifest -> {});
  }

  @Test
  void aChatStreamsIsKeptAndComesBack() throws Exception {
    ChatController chat = controller();
    chat.start();
    assertTrue(until(ChatState.Phase.EMPTY).status.contains("import"));
    bundle();
    chat.start();
    assertTrue(until(ChatState.Phase.READY).status.contains("tiny"));
    chat.send("  ");
    assertTrue(shown.get(shown.size() - 1).messages.isEmpty());
    chat.send("Hi");
    assertTrue(shown.get(shown.size() - 1).canStop());
    chat.start(); // nothing happens twice
    ChatState answered = until(ChatState.Phase.READY);
    assertEquals(2, answered.messages.size());
    assertEquals("user", answered.messages.get(0).role);
    assertEquals("assistant", answered.messages.get(1).role);
    assertTrue(answered.status.contains("tokens/s"), answered.status);
    chat.close();
    ChatController again = controller();
    again.start();
    assertEquals(answered.messages.get(1).content, until(ChatState.Phase.READY).messages.get(1).content);
    again.reset();
    assertTrue(shown.get(shown.size() - 1).messages.isEmpty());
    again.shrink();
    again.release();
    assertTrue(until(ChatState.Phase.EMPTY).status.contains("short of memory"));
    again.start();
    until(ChatState.Phase.READY);
    again.close();
  }

  @Test
  void aQuestionWithoutAnAnswerIsThereToBeSentAgain() throws Exception {
    bundle();
    ChatStore store = new ChatStore(folder.resolve("chat.json").toFile());
    List<ChatMessage> messages = new ArrayList<>();
    messages.add(new ChatMessage("user", "One?"));
    messages.add(new ChatMessage("assistant", "One."));
    messages.add(new ChatMessage("user", "Two?"));
    store.save(messages);
    ChatController chat = controller();
    chat.start();
    ChatState state = until(ChatState.Phase.READY);
    assertEquals(2, state.messages.size());
    assertEquals("Two?", state.unsent);
    chat.send(state.unsent);
    assertEquals("", shown.get(shown.size() - 1).unsent);
    assertEquals(4, until(ChatState.Phase.READY).messages.size());
    chat.close();
  }

  @Test
  void aProcessKilledInAnAnswerLeavesTheChatAndTheQuestion() throws Exception {
    bundle();
    List<ChatMessage> before =
        List.of(new ChatMessage("user", "First"), new ChatMessage("assistant", "One."));
    new ChatStore(folder.resolve("chat.json").toFile()).save(before);
    java.lang.Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-Dvectors=" + System.getProperty("vectors"),
                "-cp",
                System.getProperty("java.class.path"),
                Process.class.getName(),
                folder.toString())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    try (BufferedReader said = process.inputReader()) {
      assertEquals(MIDDLE, said.readLine());
    } finally {
      process.destroyForcibly().waitFor();
    }
    ChatController chat = controller();
    chat.start();
    ChatState state = until(ChatState.Phase.READY);
    assertEquals("Second", state.unsent);
    assertEquals(2, state.messages.size());
    assertEquals("One.", state.messages.get(1).content);
    chat.send(state.unsent);
    assertEquals(4, until(ChatState.Phase.READY).messages.size());
    chat.close();
  }

  @Test
  void whatFailsIsSaidAndTheNextTryWorks() throws Exception {
    bundle();
    ChatController chat = controller();
    chat.start();
    until(ChatState.Phase.READY);
    chat.importBundle(new ByteArrayInputStream(new byte[10]), 1 << 20);
    until(ChatState.Phase.IMPORTING);
    ChatState failed = until(ChatState.Phase.READY); // the model that was there is still there
    assertTrue(failed.status.contains("manifest.json"), failed.status);
    chat.send("Hi");
    assertEquals(2, until(ChatState.Phase.READY).messages.size());
    chat.close();
    Files.delete(shelf().toPath().resolve("tiny").resolve("tokenizer.json"));
    ChatController broken = controller();
    broken.start();
    assertTrue(until(ChatState.Phase.FAILED).status.contains("tokenizer.json"));
    assertFalse(shown.get(shown.size() - 1).canSend());
    broken.close();
  }

  @Test
  void anImportEndsTheAnswerAndBringsItsModel() throws Exception {
    bundle();
    ChatController chat = controller();
    chat.start();
    until(ChatState.Phase.READY);
    chat.send("Hi");
    ByteArrayOutputStream zip = new ByteArrayOutputStream();
    try (ZipOutputStream out = new ZipOutputStream(zip)) {
      for (File file : TinyBundle.write(folder.resolve("new"), m -> m.set("name", "other")).folder.listFiles()) {
        out.putNextEntry(new ZipEntry(file.getName()));
        out.write(Files.readAllBytes(file.toPath()));
      }
    }
    chat.importBundle(new ByteArrayInputStream(zip.toByteArray()), 1 << 20);
    until(ChatState.Phase.LOADING);
    ChatState ready = until(ChatState.Phase.READY);
    assertTrue(ready.status.startsWith("other, "), ready.status);
    int kept = ready.messages.size();
    assertEquals(0, kept % 2); // a question has its answer, or is gone
    for (ChatState each : shown.subList(shown.size() - 2, shown.size())) {
      assertTrue(each.answer.isEmpty());
    }
    chat.send("What?");
    ChatState last = until(ChatState.Phase.READY);
    // Its end token may come first: then the question is there to be sent again.
    assertEquals(last.unsent.isEmpty() ? kept + 2 : kept, last.messages.size());
    chat.close();
  }

  @Test
  void anImportThatFollowsAnotherIsWhatIsShown() throws Exception {
    CountDownLatch released = new CountDownLatch(1);
    InputStream slow =
        new InputStream() {
          @Override
          public int read() throws IOException {
            try {
              released.await();
            } catch (InterruptedException error) {
              throw new IOException(error);
            }
            return -1;
          }
        };
    ChatController chat = controller();
    chat.importBundle(slow, 1 << 20);
    chat.importBundle(new ByteArrayInputStream(new byte[10]), 1 << 20);
    released.countDown();
    until(ChatState.Phase.FAILED);
    assertNull(posted.poll(200, TimeUnit.MILLISECONDS)); // nothing came of the first, neither before nor later
    chat.close();
  }

  @Test
  void aChatThatCannotBeReadIsEmpty() throws Exception {
    Path file = folder.resolve("chat.json");
    for (String text : new String[] {"", "nonsense", "{}", "{\"messages\":[1]}", "{\"messages\":[{\"role\":1}]}"}) {
      Files.write(file, text.getBytes(StandardCharsets.UTF_8));
      assertTrue(new ChatStore(file.toFile()).load().isEmpty(), text);
    }
    ChatStore nowhere = new ChatStore(folder.resolve("no").resolve("where").toFile());
    assertTrue(nowhere.load().isEmpty());
    refused("cannot be kept", () -> nowhere.save(List.of()));
  }
}
