package edgemodel.onnxruntime;

import static edgemodel.Vectors.refused;

import edgemodel.RuntimeChecks;
import edgemodel.bundle.EdgeBundle;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

final class OnnxRuntimeTest {
  @TempDir Path copy;

  @TestFactory
  Collection<DynamicTest> bundlesGiveWhatPythonGives() throws IOException {
    return RuntimeChecks.all(bundle -> OnnxModels.load(bundle, null, 2));
  }

  /** A copy of a bundle whose manifest or files are other ones. */
  private EdgeBundle changed(String from, String to) throws IOException {
    Path source = RuntimeChecks.folder().resolve("qwen3");
    try (Stream<Path> files = Files.walk(source).sorted(Comparator.naturalOrder())) {
      for (Path file : files.toList()) {
        Path target = copy.resolve(source.relativize(file).toString());
        if (Files.isDirectory(file)) {
          Files.createDirectories(target);
        } else {
          Files.write(target, Files.readAllBytes(file));
        }
      }
    }
    Path manifest = copy.resolve("manifest.json");
    Files.writeString(manifest, Files.readString(manifest).replaceAll(from, to));
    return new EdgeBundle(copy.toFile());
  }

  @Test
  void whatIsNoModelIsRefused() throws IOException {
    EdgeBundle other = changed("\"head_size\": *\\d+", "\"head_size\": 24");
    refused("expected [", () -> OnnxModels.load(other, null, 1));
    EdgeBundle broken = changed("nothing", "nothing");
    for (String name : broken.manifest.files.keySet()) {
      if (name.endsWith(".onnx")) {
        Path file = copy.resolve(name);
        byte[] data = Files.readAllBytes(file);
        Arrays.fill(data, (byte) 0xFF);
        Files.write(file, data);
      }
    }
    refused("ONNX Runtime cannot load", () -> OnnxModels.load(broken, null, 1));
    refused("threads is 0", () -> OnnxModels.load(broken, null, 0));
  }
}
