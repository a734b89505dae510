package androidx.test.runner.intent;

/** What Robolectric registers; nothing here asks it. */
public interface IntentMonitor {}
