package androidx.test.runner.intent;

/** Where a stubber would be found; none is loaded. */
public final class IntentStubberRegistry {
  private IntentStubberRegistry() {}

  public static boolean isLoaded() {
    return false;
  }

  public static IntentStubber getInstance() {
    throw new IllegalStateException("no stubber is loaded");
  }
}
