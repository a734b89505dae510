package edgemodel.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotSame;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.content.ComponentCallbacks2;
import android.content.Context;
import android.content.res.Configuration;
import android.os.PowerManager;
import android.text.Editable;
import android.text.TextWatcher;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.EditText;
import android.widget.TextView;
import java.util.ArrayList;
import java.util.List;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.annotation.Config;

/** Answers of a real bundle by ONNX Runtime on the app's screen. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34, qualifiers = "port-mdpi")
public final class ChatScreenTest {
  /** Of what is touched, in pixels, of which this device has one to a dp. */
  private static final int LEAST_TOUCHED = 48;

  /** Makes the governor rest between tokens, so that there is time to touch something. */
  private static void warm() {
    PowerManager power =
        (PowerManager) Screen.application().getSystemService(Context.POWER_SERVICE);
    shadowOf(power).setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE);
  }

  @Test
  public void aMessageIsAnsweredAndBothAreKept() throws Exception {
    Screen.shelve();
    String all;
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.send("  ");
      assertEquals("", screen.text(R.id.transcript));
      screen.send("Hello");
      assertTrue(screen.visible(R.id.stop));
      assertFalse(screen.visible(R.id.send));
      screen.untilReady();
      assertTrue(screen.text(R.id.transcript).startsWith("You\nHello\n\nModel\n"));
      assertTrue(screen.text(R.id.state), screen.text(R.id.state).contains("tokens/s"));
      all = screen.text(R.id.transcript);
    }
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      assertEquals(all, screen.text(R.id.transcript));
      assertTrue(shadowOf(screen.activity()).clickMenuItem(R.string.new_chat));
      assertEquals("", screen.text(R.id.transcript));
    }
  }

  @Test
  public void stopEndsAnAnswerAndKeepsWhatCame() throws Exception {
    Screen.shelve();
    warm();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.send("Hello");
      screen.untilSomeIsAnswered();
      String came = screen.lastOfTheModel();
      assertTrue(screen.view(R.id.stop).performClick());
      screen.untilReady();
      assertTrue(screen.text(R.id.state), screen.text(R.id.state).contains("stopped"));
      assertTrue(screen.lastOfTheModel(), screen.lastOfTheModel().startsWith(came));
      screen.send("And then?");
      screen.untilSomeIsAnswered();
    }
  }

  @Test
  public void anAnswerEndsWhenTheAppLeavesTheScreen() throws Exception {
    Screen.shelve();
    warm();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.send("Hello");
      screen.untilSomeIsAnswered();
      screen.controller.pause(); // still seen, behind a dialog
      assertTrue(screen.visible(R.id.stop));
      screen.controller.stop();
      screen.untilReady();
      String came = screen.lastOfTheModel();
      assertFalse(came.isEmpty());
      screen.controller.restart().start().resume();
      screen.untilReady();
      assertEquals(came, screen.lastOfTheModel());
    }
  }

  @Test
  public void aTurnedDeviceKeepsTheAnswerUnderWay() throws Exception {
    Screen.shelve();
    warm();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.send("Hello");
      screen.untilSomeIsAnswered();
      String came = screen.lastOfTheModel();
      MainActivity before = screen.controller.get();
      RuntimeEnvironment.setQualifiers("+land");
      Configuration turned = new Configuration(screen.activity().getResources().getConfiguration());
      turned.orientation = Configuration.ORIENTATION_LANDSCAPE;
      screen.controller.configurationChange(turned);
      assertSame(before, screen.controller.get());
      assertTrue(screen.visible(R.id.stop));
      screen.until("more", () -> screen.lastOfTheModel().length() > came.length());
      assertTrue(screen.lastOfTheModel().startsWith(came));
    }
  }

  @Test
  public void anActivityThatIsMadeAnewHasTheChat() throws Exception {
    Screen.shelve();
    warm();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.send("Hello");
      screen.untilSomeIsAnswered();
      String came = screen.lastOfTheModel();
      MainActivity before = screen.controller.get();
      screen.controller.recreate(); // another language, or the system had to
      assertNotSame(before, screen.controller.get());
      screen.untilReady();
      assertTrue(screen.text(R.id.transcript).startsWith("You\nHello\n\nModel\n" + came));
    }
  }

  @Test
  public void memoryIsAskedForAndGivenBack() throws Exception {
    Screen.shelve();
    try (Screen screen = Screen.open(1 << 20)) {
      screen.untilItSays("0 MiB are free");
      assertFalse(screen.view(R.id.send).isEnabled());
    }
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      screen.activity().onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN);
      assertTrue(screen.view(R.id.send).isEnabled());
      screen.activity().onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_COMPLETE);
      screen.untilItSays("short of memory");
      assertFalse(screen.view(R.id.send).isEnabled());
      screen.controller.pause().stop().restart().start().resume();
      screen.untilReady();
    }
  }

  @Test
  public void aScreenReaderHearsWhatIsThereAndNotEachToken() throws Exception {
    Screen.shelve();
    warm();
    try (Screen screen = Screen.open()) {
      screen.untilReady();
      TextView line = screen.view(R.id.state);
      List<String> heard = new ArrayList<>();
      line.addTextChangedListener(new Heard(heard));
      screen.send("Hello");
      screen.untilSomeIsAnswered();
      int first = screen.lastOfTheModel().length();
      screen.until("more", () -> screen.lastOfTheModel().length() > first + 2);
      assertEquals(heard.toString(), 1, heard.size()); // that it answers; not the tokens
      assertTrue(screen.view(R.id.stop).performClick());
      screen.untilReady();
      assertEquals(heard.toString(), 2, heard.size());
      assertEquals(View.ACCESSIBILITY_LIVE_REGION_POLITE, line.getAccessibilityLiveRegion());
      String description = line.getContentDescription().toString();
      assertTrue(description, description.startsWith(screen.activity().getString(R.string.state)));
      assertTrue(description, description.endsWith(line.getText().toString()));
      assertEquals(
          View.IMPORTANT_FOR_ACCESSIBILITY_NO, screen.view(R.id.progress).getImportantForAccessibility());
      List<View> touched = new ArrayList<>();
      collect(screen.activity().findViewById(android.R.id.content), touched);
      assertEquals(3, touched.size()); // the message, send and stop
      for (View each : touched) {
        assertFalse(each.toString(), named(each).isEmpty());
        assertTrue(each.toString(), each.getMinimumHeight() >= LEAST_TOUCHED || ((TextView) each).getMinHeight() >= LEAST_TOUCHED);
      }
    }
  }

  private static void collect(View view, List<View> touched) {
    if (view instanceof Button || view instanceof EditText) {
      touched.add(view);
    } else if (view instanceof ViewGroup group) {
      for (int i = 0; i < group.getChildCount(); i++) {
        collect(group.getChildAt(i), touched);
      }
    }
  }

  /** What a screen reader calls a view. */
  private static String named(View view) {
    TextView text = (TextView) view;
    return String.valueOf(text instanceof EditText ? text.getHint() : text.getText());
  }

  /** Keeps what a live region would be read as. */
  private record Heard(List<String> lines) implements TextWatcher {
    @Override
    public void beforeTextChanged(CharSequence text, int start, int count, int after) {}

    @Override
    public void onTextChanged(CharSequence text, int start, int before, int count) {}

    @Override
    public void afterTextChanged(Editable text) {
      lines.add(text.toString());
    }
  }
}
