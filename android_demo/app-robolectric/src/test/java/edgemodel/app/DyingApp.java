package edgemodel.app;

import java.io.File;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;

/**
 * The app in a process of its own, which is killed from outside: it writes what it does to the standard
 * output, and then waits. DeathTest runs it.
 */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34)
public final class DyingApp {
  /** Stands before the folder of the app's files, once the app is in the middle. */
  static final String MIDDLE = "in the middle: ";

  /** Properties of `fetches`: where the bundle is, and how much of its largest file is enough. */
  static final String ADDRESS = "dying.address";

  static final String HALF = "dying.half";

  @Test
  public void answers() throws Exception {
    Screen screen = Screen.answering();
    screen.view(R.id.stop).performClick(); // else it fills the context of the tiny model
    screen.untilReady();
    screen.send("Second");
    screen.untilSomeIsAnswered();
    untilKilled();
  }

  @Test
  public void imports() throws Exception {
    Screen.shelve();
    byte[] zip = Screen.zip(Screen.bundle());
    Screen screen = Screen.open();
    screen.untilReady();
    screen.pick(new Gate(zip, zip.length / 2));
    screen.until(
        "an import",
        () -> Screen.names(Screen.shelf()).stream().anyMatch(name -> name.startsWith(".incoming-")));
    untilKilled();
  }

  @Test
  public void fetches() throws Exception {
    Screen.shelve();
    Screen screen = Screen.open();
    screen.untilReady();
    screen.fetch(System.getProperty(ADDRESS));
    long half = Long.getLong(HALF);
    screen.until(
        "half a file", () -> new File(Screen.shelf(), ".download/bundle/more.bin").length() >= half);
    untilKilled();
  }

  private static void untilKilled() throws InterruptedException {
    System.out.println(MIDDLE + Screen.application().getDataDir());
    Thread.sleep(Long.MAX_VALUE);
  }
}
