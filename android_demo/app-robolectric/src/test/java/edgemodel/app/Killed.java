package edgemodel.app;

import org.junit.runner.JUnitCore;
import org.junit.runner.Request;

/** `Killed METHOD`: runs one method of DyingApp. */
final class Killed {
  private Killed() {}

  public static void main(String[] arguments) {
    new JUnitCore().run(Request.method(DyingApp.class, arguments[0]));
    System.exit(1); // it should have been killed
  }
}
