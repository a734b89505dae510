package edgemodel.litert;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import edgemodel.RuntimeChecks;
import edgemodel.bundle.EdgeBundle;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

final class JniLiteRtTest {
  @TempDir Path folder;

  private static LiteRtApi api() {
    String library = System.getProperty("litert.library", "");
    String jni = System.getProperty("litert.jni", "");
    Assumptions.assumeFalse(library.isEmpty(), "no litert.library: path of libLiteRt.so");
    Assumptions.assumeFalse(jni.isEmpty(), "no litert.jni: path of what jvm.py compiles");
    System.load(jni);
    return new JniLiteRt(library);
  }

  @TestFactory
  Collection<DynamicTest> bundlesGiveWhatPythonGives() throws IOException {
    LiteRtApi api = api();
    return RuntimeChecks.all(bundle -> LiteRtModels.load(bundle, null, api, 2));
  }

  @Test
  void whatIsNoLibraryOrNoFileIsRefused() throws IOException {
    LiteRtApi api = api();
    refused("nowhere.so cannot be loaded", () -> new JniLiteRt("nowhere.so"));
    refused("has no LiteRtCreateEnvironment", () -> new JniLiteRt(System.getProperty("litert.jni")));
    EdgeBundle bundle = new EdgeBundle(RuntimeChecks.folder().resolve("qwen3").toFile());
    refused("threads is 0", () -> LiteRtModels.load(bundle, null, api, 0));
    Path other = Files.write(folder.resolve("other.tflite"), new byte[100]);
    refused("cannot load other.tflite: LiteRtCreateModelFromFile", () -> api.open(other.toString(), ""));
    refused("cannot load none.tflite: LiteRtCreateModelFromFile", () -> api.open("/none.tflite", ""));
  }

  @Test
  void memoryStartsAtAWholeLineAndIsWrittenInPlace() {
    LiteRtApi api = api();
    for (int bytes : new int[] {64, 4096, 192}) {
      ByteBuffer memory = api.allocate(bytes);
      assertEquals(bytes, memory.capacity());
      assertEquals(0, memory.alignmentOffset(0, LiteRtApi.ALIGNMENT_BYTES));
      long buffer = api.buffer(LiteRtApi.FLOAT32, new int[] {bytes / 4}, memory);
      assertTrue(buffer != 0);
      api.destroyBuffer(buffer);
    }
    refused("refused host memory", () -> api.buffer(LiteRtApi.FLOAT32, new int[9], api.allocate(64)));
  }
}
