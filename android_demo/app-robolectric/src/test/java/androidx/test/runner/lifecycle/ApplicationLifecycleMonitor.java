package androidx.test.runner.lifecycle;

/** What Robolectric registers; nothing here asks it. */
public interface ApplicationLifecycleMonitor {}
