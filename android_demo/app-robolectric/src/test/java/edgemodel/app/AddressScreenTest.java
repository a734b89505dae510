package edgemodel.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.AlertDialog;
import android.content.DialogInterface;
import android.widget.EditText;
import edgemodel.LoopbackServer;
import edgemodel.bundle.EdgeBundle;
import java.io.File;
import java.nio.file.Path;
import java.util.List;
import org.junit.After;
import org.junit.Before;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;
import org.robolectric.fakes.RoboMenu;
import org.robolectric.shadows.ShadowAlertDialog;

/** Models that come from an address, on the screen of the build that asks for the network. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34, qualifiers = "mdpi")
public final class AddressScreenTest {
  @Rule public final TemporaryFolder temporary = new TemporaryFolder();
  private LoopbackServer server;

  @Before
  public void serve() throws Exception {
    server = new LoopbackServer();
    Path folder = temporary.getRoot().toPath().resolve("large");
    ImportScreenTest.large(folder);
    Screen.serve(server, folder);
    server.held = "/model/more.bin";
    server.heldAt = server.files.get(server.held).length * 3 / 4;
  }

  @After
  public void end() {
    server.close();
  }

  @Test
  public void aModelIsFetchedWithProgressAndAnswers() {
    try (Screen screen = Screen.open()) {
      screen.untilItSays("no model yet");
      screen.fetch(server.address("/model"));
      screen.until("progress", () -> screen.text(R.id.state).matches("(?s)importing: [4-9] of 1\\d MiB\n.*"));
      assertTrue(screen.visible(R.id.progress));
      assertTrue(screen.visible(R.id.stop));
      server.release();
      screen.untilReady();
      assertEquals(1, Screen.names(Screen.shelf()).size());
      screen.send("Hello");
      screen.untilReady();
      assertFalse(screen.lastOfTheModel().isEmpty());
    }
  }

  @Test
  public void aStoppedFetchIsOfferedAgain() {
    try (Screen screen = Screen.open()) {
      screen.untilItSays("no model yet");
      screen.fetch(server.address("/model"));
      screen.untilItSays("importing: ");
      screen.until("a part", () -> new File(Screen.shelf(), ".download/bundle/more.bin").length() >= server.heldAt);
      assertTrue(screen.view(R.id.stop).performClick());
      server.release();
      screen.untilItSays("what has come is kept");
      assertTrue(shadowOf(screen.activity()).clickMenuItem(R.string.import_address));
      AlertDialog dialog = ShadowAlertDialog.getLatestAlertDialog();
      EditText field = dialog.findViewById(R.id.address);
      assertEquals(server.address("/model/"), field.getText().toString());
      assertEquals(screen.activity().getString(R.string.address), field.getHint().toString()); // read by TalkBack
      assertTrue(field.getMinHeight() >= 48);
      assertEquals(
          screen.activity().getString(R.string.address_goes_on), shadowOf(dialog).getMessage().toString());
      assertTrue(dialog.getButton(DialogInterface.BUTTON_NEGATIVE).performClick());
      server.asked.clear();
      screen.fetch(null);
      screen.untilReady();
      assertFalse(server.asked.contains("/model/more.bin from 0"));
    }
  }

  @Test
  public void whatIsTypedWrongIsSaidAndTheModelStays() throws Exception {
    Screen.shelve();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.fetch("192.168.1.5:8000");
      screen.untilItSays("type it as http://");
      screen.fetch(server.address("/nothing"));
      screen.untilItSays("the server has no");
      new EdgeBundle(new File(Screen.shelf(), "qwen3")).verify();
      screen.send("Hello");
      screen.untilReady();
      assertFalse(screen.lastOfTheModel().isEmpty());
    }
  }

  @Test
  public void theBuildThatAsksForNothingDoesNotOfferIt() {
    try (Screen screen = Screen.open()) {
      RoboMenu menu = new RoboMenu(screen.activity());
      screen.activity().onCreateOptionsMenu(menu);
      assertNotNull(menu.findItem(R.string.import_address));
      shadowOf(screen.activity().getPackageManager())
              .getInternalMutablePackageInfo(screen.activity().getPackageName())
              .requestedPermissions =
          null;
      RoboMenu without = new RoboMenu(screen.activity());
      screen.activity().onCreateOptionsMenu(without);
      assertNull(without.findItem(R.string.import_address));
      assertNotNull(without.findItem(R.string.import_model));
    }
  }

  @Test
  public void theManifestAsksForTheNetworkAlone() throws Exception {
    assertEquals(
        List.of("android.permission.INTERNET"),
        List.of(
            Screen.application()
                .getPackageManager()
                .getPackageInfo("edgemodel.app", android.content.pm.PackageManager.GET_PERMISSIONS)
                .requestedPermissions));
  }
}
