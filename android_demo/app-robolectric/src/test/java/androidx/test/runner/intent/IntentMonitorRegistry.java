package androidx.test.runner.intent;

/** Where Robolectric registers its monitor. */
public final class IntentMonitorRegistry {
  private IntentMonitorRegistry() {}

  public static void registerInstance(IntentMonitor monitor) {}
}
