package edgemodel.litert;

import static edgemodel.Vectors.refused;

import edgemodel.RuntimeChecks;
import edgemodel.bundle.EdgeBundle;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

final class LiteRtTest {
  private static Path library() {
    String library = System.getProperty("litert.library", "");
    Assumptions.assumeFalse(library.isEmpty(), "no litert.library: path of libLiteRt.so");
    return Path.of(library);
  }

  @TestFactory
  Collection<DynamicTest> bundlesGiveWhatPythonGives() throws IOException {
    Path library = library();
    return RuntimeChecks.all(bundle -> LiteRtModels.load(bundle, null, new ForeignLiteRt(library), 2));
  }

  @Test
  void whatIsNoLibraryIsRefused() {
    Path nowhere = Path.of("nowhere.so");
    EdgeBundle bundle = new EdgeBundle(RuntimeChecks.folder().resolve("qwen3").toFile());
    refused("cannot be loaded", () -> new ForeignLiteRt(nowhere));
    LiteRtApi api = new ForeignLiteRt(library());
    refused("threads is 0", () -> LiteRtModels.load(bundle, null, api, 0));
  }
}
