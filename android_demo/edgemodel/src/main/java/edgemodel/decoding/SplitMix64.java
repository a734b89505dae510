package edgemodel.decoding;

/**
 * A small generator of random numbers (Fast Splittable Pseudorandom Number Generators, figure 16): the same
 * seed gives the same numbers on every device, and those of the Swift package. Not those of edgesdk in Python.
 */
final class SplitMix64 {
  private long state;

  SplitMix64(long seed) {
    state = seed;
  }

  long next() {
    state += 0x9E3779B97F4A7C15L;
    long z = state;
    z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return z ^ z >>> 31;
  }

  /** From 0 to below 1, in steps of 2^-53. */
  double nextUnit() {
    return (next() >>> 11) * 0x1p-53;
  }
}
