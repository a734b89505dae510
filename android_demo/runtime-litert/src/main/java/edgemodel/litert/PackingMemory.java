package edgemodel.litert;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * Memory with the name of a file, for LiteRT to write its packed weights into: then all signatures share one
 * copy, which else each has for itself. LiteRT ends the process when it cannot write, so it never gets a file
 * on a disk (docs/decisions/0015). It follows edgesdk/backends/litert/packing_memory.py.
 */
final class PackingMemory implements AutoCloseable {
  private static final Path LIMITS = Path.of("/proc/self/limits");
  private static final Path MEMORY = Path.of("/proc/meminfo");

  private final int descriptor;
  private final MethodHandle close;

  private PackingMemory(int descriptor, MethodHandle close) {
    this.descriptor = descriptor;
    this.close = close;
  }

  /** Its name, for this process. */
  Path path() {
    return Path.of("/proc/self/fd/" + descriptor);
  }

  /** Memory for a file of so many bytes; null where the system has none, limits files, or has too little. */
  static PackingMemory open(long sizeBytes) {
    Linker linker = Linker.nativeLinker();
    Optional<MemorySegment> create = linker.defaultLookup().find("memfd_create");
    Optional<MemorySegment> close = linker.defaultLookup().find("close");
    if (create.isEmpty() || close.isEmpty() || !unlimited() || availableBytes() < 2 * sizeBytes) {
      return null;
    }
    MethodHandle closing = linker.downcallHandle(close.get(), FunctionDescriptor.of(JAVA_INT, JAVA_INT));
    MethodHandle making =
        linker.downcallHandle(create.get(), FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT));
    int descriptor;
    try (Arena arena = Arena.ofConfined()) {
      descriptor = (int) making.invokeExact(arena.allocateFrom("edgemodel packed weights"), 0);
    } catch (Throwable error) {
      throw LiteRtLibrary.broken("memfd_create", error);
    }
    if (descriptor < 0) {
      return null;
    }
    PackingMemory memory = new PackingMemory(descriptor, closing);
    if (!Files.exists(memory.path())) { // /proc is not mounted
      memory.close();
      return null;
    }
    return memory;
  }

  /** The limit on files holds for these too, and LiteRT ends the process when it meets it. */
  private static boolean unlimited() {
    return lines(LIMITS).stream().anyMatch(line -> line.matches("Max file size\\s+unlimited\\s.*"));
  }

  /** What the system could give without writing anything out; 0 where it does not say. */
  private static long availableBytes() {
    for (String line : lines(MEMORY)) {
      if (line.matches("MemAvailable:\\s+\\d+ kB")) {
        return Long.parseLong(line.replaceAll("\\D", "")) << 10;
      }
    }
    return 0;
  }

  private static List<String> lines(Path file) {
    try {
      return Files.readAllLines(file);
    } catch (IOException error) {
      return List.of();
    }
  }

  /** Gives the memory back, once LiteRT has let go of the model. */
  @Override
  public void close() {
    try {
      int ignored = (int) close.invokeExact(descriptor);
    } catch (Throwable error) {
      throw LiteRtLibrary.broken("close", error);
    }
  }
}
