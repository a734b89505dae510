package edgemodel.app;

import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.app.ActivityManager;
import android.app.AlertDialog;
import android.app.Application;
import android.content.Context;
import android.content.DialogInterface;
import android.content.Intent;
import android.net.Uri;
import android.os.Looper;
import android.os.PowerManager;
import android.view.View;
import android.widget.EditText;
import android.widget.TextView;
import edgemodel.LoopbackServer;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.robolectric.Robolectric;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.shadows.ShadowActivity;
import org.robolectric.shadows.ShadowAlertDialog;

/** The app's screen, as a person sees and touches it. */
final class Screen implements AutoCloseable {
  private static final long PATIENCE_NS = TimeUnit.SECONDS.toNanos(300);
  private static final Uri ZIP = Uri.parse("content://files/model.zip");

  final ActivityController<MainActivity> controller;

  private Screen() {
    controller = Robolectric.buildActivity(MainActivity.class).setup();
  }

  /** Starts the app on a device with so many bytes of memory. */
  static Screen open(long freeBytes) {
    ActivityManager.MemoryInfo memory = new ActivityManager.MemoryInfo();
    memory.availMem = freeBytes;
    ActivityManager manager = (ActivityManager) application().getSystemService(Context.ACTIVITY_SERVICE);
    shadowOf(manager).setMemoryInfo(memory);
    return new Screen();
  }

  static Screen open() {
    return open(4L << 30);
  }

  /** Starts the app with a model that has begun to answer "Hello", and rests between tokens. */
  static Screen answering() throws IOException {
    shelve();
    warm();
    Screen screen = open();
    screen.untilReady();
    screen.send("Hello");
    screen.untilSomeIsAnswered();
    return screen;
  }

  /** Makes the governor rest between tokens, so that there is time to touch something. */
  static void warm() {
    PowerManager power = (PowerManager) application().getSystemService(Context.POWER_SERVICE);
    shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE);
  }

  static Application application() {
    return RuntimeEnvironment.getApplication();
  }

  /** The folder of bundles. */
  static File shelf() {
    return new File(application().getNoBackupFilesDir(), "models");
  }

  /** The folder of the bundle that the tests run, which make_test_bundles.py made. */
  static Path bundle() {
    return Path.of(System.getProperty("bundles"), "qwen3");
  }

  /** Puts the bundle on the shelf, as an import in an earlier process did. */
  static void shelve() throws IOException {
    copy(bundle(), shelf().toPath().resolve("qwen3"));
  }

  static void copy(Path from, Path to) throws IOException {
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : (Iterable<Path>) files::iterator) {
        Path target = to.resolve(from.relativize(file).toString());
        Files.createDirectories(Files.isDirectory(file) ? target : target.getParent());
        if (!Files.isDirectory(file)) {
          Files.copy(file, target);
        }
      }
    }
  }

  /** A bundle's folder as a zip. */
  static byte[] zip(Path folder) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (ZipOutputStream zip = new ZipOutputStream(bytes);
        Stream<Path> files = Files.walk(folder)) {
      for (Path file : (Iterable<Path>) files.filter(Files::isRegularFile)::iterator) {
        zip.putNextEntry(new ZipEntry(folder.relativize(file).toString()));
        Files.copy(file, zip);
      }
    }
    return bytes.toByteArray();
  }

  Activity activity() {
    return controller.get();
  }

  <V extends View> V view(int id) {
    return activity().findViewById(id);
  }

  String text(int id) {
    return ((TextView) view(id)).getText().toString();
  }

  boolean visible(int id) {
    return view(id).getVisibility() == View.VISIBLE;
  }

  /** Chooses a file in the system's picker, after the menu has asked for one. */
  void pick(InputStream zip) {
    ShadowActivity shadow = shadowOf(activity());
    assertTrue(shadow.clickMenuItem(R.string.import_model));
    Intent asked = shadow.getNextStartedActivityForResult().intent;
    assertTrue(asked.toString(), Intent.ACTION_OPEN_DOCUMENT.equals(asked.getAction()));
    shadowOf(activity().getContentResolver()).registerInputStream(ZIP, zip);
    shadow.receiveResult(asked, Activity.RESULT_OK, new Intent().setData(ZIP));
  }

  /** Types an address after the menu has asked for one; null for the one that stands there. */
  void fetch(String address) {
    assertTrue(shadowOf(activity()).clickMenuItem(R.string.import_address));
    AlertDialog dialog = ShadowAlertDialog.getLatestAlertDialog();
    if (address != null) {
      ((EditText) dialog.findViewById(R.id.address)).setText(address);
    }
    assertTrue(dialog.getButton(DialogInterface.BUTTON_POSITIVE).performClick());
  }

  /** Puts a folder's files on a server, below /model/. */
  static void serve(LoopbackServer server, Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : (Iterable<Path>) files.filter(Files::isRegularFile)::iterator) {
        server.files.put("/model/" + folder.relativize(file), Files.readAllBytes(file));
      }
    }
  }

  /** Types a message and sends it. */
  void send(String message) {
    EditText field = view(R.id.message);
    field.setText(message);
    assertTrue(view(R.id.send).performClick());
  }

  /** Runs the screen's thread until something holds. */
  void until(String what, BooleanSupplier holds) {
    long began = System.nanoTime();
    shadowOf(Looper.getMainLooper()).idle();
    while (!holds.getAsBoolean()) {
      assertTrue(what + " never came; it says: " + text(R.id.state), System.nanoTime() - began < PATIENCE_NS);
      try {
        Thread.sleep(1);
      } catch (InterruptedException error) {
        throw new IllegalStateException(error);
      }
      shadowOf(Looper.getMainLooper()).idle();
    }
  }

  void untilItSays(String said) {
    until(said, () -> text(R.id.state).contains(said));
  }

  void untilReady() {
    until("a model", () -> view(R.id.send).isEnabled() && visible(R.id.send));
  }

  /** Waits until an answer has begun to show. */
  void untilSomeIsAnswered() {
    until("an answer", () -> visible(R.id.stop) && !lastOfTheModel().isEmpty());
  }

  /** What the model said last; empty while it waits. */
  String lastOfTheModel() {
    String all = text(R.id.transcript);
    int at = all.lastIndexOf("Model\n");
    String said = at < 0 ? "" : all.substring(at + "Model\n".length()).trim();
    return said.equals(activity().getString(R.string.waiting)) ? "" : said;
  }

  static List<String> names(File folder) {
    String[] found = folder.list();
    return found == null ? List.of() : Stream.of(found).sorted().toList();
  }

  @Override
  public void close() {
    controller.close();
  }
}
