package edgemodel.app;

import android.app.ActivityManager;
import android.content.Context;
import android.os.Build;
import android.os.PowerManager;
import edgemodel.device.Heat;
import edgemodel.device.ThermalGovernor;
import java.util.Locale;

/** How hot the device is, whether it saves power, how much memory is left. */
final class DeviceState implements ThermalGovernor.Device {
  /** Of what is free, what the model may take: the rest is for the app itself and the system's caches. */
  private static final double MEMORY_SHARE = 0.75;

  private final PowerManager power;
  private final ActivityManager activities;

  DeviceState(Context context) {
    power = (PowerManager) context.getSystemService(Context.POWER_SERVICE);
    activities = (ActivityManager) context.getSystemService(Context.ACTIVITY_SERVICE);
  }

  @Override
  public Heat heat() {
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) {
      return Heat.NOMINAL; // earlier systems do not say
    }
    int status = power.getCurrentThermalStatus();
    if (status >= PowerManager.THERMAL_STATUS_CRITICAL) {
      return Heat.CRITICAL;
    }
    if (status == PowerManager.THERMAL_STATUS_SEVERE) {
      return Heat.SERIOUS;
    }
    return status == PowerManager.THERMAL_STATUS_NONE ? Heat.NOMINAL : Heat.FAIR;
  }

  @Override
  public boolean savesPower() {
    return power.isPowerSaveMode();
  }

  /** Bytes that a model may take. Advice, not a promise: ask before loading, and do not keep the answer. */
  long freeBytes() {
    ActivityManager.MemoryInfo memory = new ActivityManager.MemoryInfo();
    activities.getMemoryInfo(memory);
    return (long) (MEMORY_SHARE * Math.max(0, memory.availMem - memory.threshold));
  }

  /** Threads that do not include the small cores, of which phones mostly have half. */
  int threads() {
    return Math.max(1, Math.min(4, Runtime.getRuntime().availableProcessors() / 2));
  }

  /** One line for the screen. */
  String line() {
    return String.format(
        Locale.getDefault(),
        "%s · %s%s · %d MiB free",
        Build.MODEL,
        heat().name().toLowerCase(Locale.ROOT),
        savesPower() ? ", saving power" : "",
        freeBytes() >> 20);
  }
}
