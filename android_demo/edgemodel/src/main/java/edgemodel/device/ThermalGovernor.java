package edgemodel.device;

import edgemodel.steps.StopSignal;

/**
 * Decides how long to rest between two tokens. The pauses are choices, not measurements: measure on your
 * devices and set your own.
 */
public final class ThermalGovernor {
  /** What is known of the device. */
  public interface Device {
    /** How hot it is now. */
    Heat heat();

    /** Whether its user asked it to save power. */
    boolean savesPower();
  }

  private static final long LONGEST_SLEEP_MS = 50;

  private final Device device;
  private final long seriousPauseMs;
  private final long savingPauseMs;
  private final long criticalPauseMs;

  public ThermalGovernor(Device device) {
    this(device, 60, 30, 1000);
  }

  /**
   * @param seriousPauseMs between tokens while the device is serious.
   * @param savingPauseMs between tokens while it saves power.
   * @param criticalPauseMs between two looks at a critical device, until it is so no more.
   */
  public ThermalGovernor(Device device, long seriousPauseMs, long savingPauseMs, long criticalPauseMs) {
    this.device = device;
    this.seriousPauseMs = seriousPauseMs;
    this.savingPauseMs = savingPauseMs;
    this.criticalPauseMs = criticalPauseMs;
  }

  /** How long to rest before the next token, or before the next look at a critical device. */
  public long pauseMs() {
    Heat heat = device.heat();
    if (heat == Heat.CRITICAL) {
      return criticalPauseMs;
    }
    if (heat == Heat.SERIOUS) {
      return seriousPauseMs;
    }
    return device.savesPower() ? savingPauseMs : 0;
  }

  /**
   * Rests.
   *
   * @return false when it was told to stop meanwhile.
   */
  public boolean rest(StopSignal signal) {
    while (device.heat() == Heat.CRITICAL) {
      if (!sleep(criticalPauseMs, signal)) {
        return false;
      }
    }
    return sleep(pauseMs(), signal);
  }

  private static boolean sleep(long pauseMs, StopSignal signal) {
    for (long left = pauseMs; left > 0; left -= LONGEST_SLEEP_MS) {
      if (signal.stops()) {
        return false;
      }
      try {
        Thread.sleep(Math.min(left, LONGEST_SLEEP_MS));
      } catch (InterruptedException error) {
        Thread.currentThread().interrupt();
        return false;
      }
    }
    return !signal.stops();
  }
}
