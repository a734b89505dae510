package androidx.test.runner.intent;

import android.app.Instrumentation;
import android.content.Intent;

/** Would answer intents in the place of activities; there is none. */
public interface IntentStubber {
  Instrumentation.ActivityResult getActivityResultForIntent(Intent intent);
}
