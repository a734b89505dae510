package edgemodel.device;

/** How hot a device is: Android's PowerManager has more steps, see the app's DeviceState. */
public enum Heat {
  NOMINAL,
  FAIR,
  SERIOUS,
  CRITICAL
}
