package edgemodel.litert;

import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Memory with the name of a file, for LiteRT to write its packed weights into: then all signatures share one
 * copy, which else each has for itself. LiteRT ends the process when it cannot write, so it never gets a file
 * on a disk (docs/decisions/0015). It follows edgesdk/backends/litert/packing_memory.py.
 */
final class PackingMemory {
  private static final Pattern UNLIMITED = Pattern.compile("Max file size\\s+unlimited\\s.*");
  private static final Pattern AVAILABLE = Pattern.compile("MemAvailable:\\s+(\\d+) kB");

  private final LiteRtApi api;
  private final int descriptor;

  private PackingMemory(LiteRtApi api, int descriptor) {
    this.api = api;
    this.descriptor = descriptor;
  }

  /** Its name, for this process. */
  String path() {
    return "/proc/self/fd/" + descriptor;
  }

  /** Memory for a file of so many bytes; null where the system has none, limits files, or has too little. */
  static PackingMemory open(LiteRtApi api, long sizeBytes) {
    // The limit on files holds for these too, and LiteRT ends the process when it meets it.
    Matcher available = find("/proc/meminfo", AVAILABLE);
    if (find("/proc/self/limits", UNLIMITED) == null
        || available == null
        || Long.parseLong(available.group(1)) << 10 < 2 * sizeBytes) {
      return null;
    }
    int descriptor = api.createMemoryFile();
    if (descriptor < 0) {
      return null;
    }
    PackingMemory memory = new PackingMemory(api, descriptor);
    if (!new File(memory.path()).exists()) { // /proc is not mounted
      memory.close();
      return null;
    }
    return memory;
  }

  /** The first line of a file that a pattern fits; null for none, and where it cannot be read. */
  private static Matcher find(String file, Pattern pattern) {
    try (BufferedReader lines =
        new BufferedReader(new InputStreamReader(new FileInputStream(file), StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Matcher matcher = pattern.matcher(line);
        if (matcher.matches()) {
          return matcher;
        }
      }
      return null;
    } catch (IOException error) {
      return null;
    }
  }

  /** Gives the memory back, once LiteRT has let go of the model. */
  void close() {
    api.closeMemoryFile(descriptor);
  }
}
