package edgemodel.bundle;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonArray;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.Vectors;
import edgemodel.decoding.SamplingOptions;
import edgemodel.device.MemoryLimit;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class BundleTest {
  @TempDir Path folder;

  private EdgeBundle write(Consumer<JsonObject> change) throws Exception {
    return TinyBundle.write(folder, change);
  }

  private static JsonObject at(JsonObject object, String... path) {
    return Vectors.at(object, path).asObject();
  }

  private static JsonObject mixer(JsonObject manifest, int block) {
    return at(manifest, "decoder", "blocks", String.valueOf(block), "mixer");
  }

  @Test
  void aBundleIsRead() throws Exception {
    EdgeBundle bundle = write(manifest -> {});
    Variant variant = bundle.variant("onnx-step", null);
    assertEquals(1, variant.mainSteps.size());
    assertEquals("step_1_64", variant.mainSteps.get(0).signature);
    assertEquals(2, variant.decoder.layers);
    assertEquals(1, variant.decoder.kvHeads);
    assertEquals(4, variant.decoder.headSize);
    assertEquals(700, variant.decoder.vocabSize);
    assertEquals(6, variant.decoder.window);
    SamplingOptions sampling = SamplingOptions.recommended(bundle.manifest.generation);
    assertEquals(0.5f, sampling.temperature);
    assertEquals(0.9f, sampling.topP);
    assertEquals(0, sampling.topK);
    assertTrue(bundle.tokenCoder().encode("Hello").length > 0);
    assertNotNull(bundle.chatFormat());
    bundle.verify();
  }

  @Test
  void whatCannotBeIsRefused() {
    refusedWith("schema 3, this app reads 2; update the app", m -> m.set("schema_version", 3));
    refusedWith("schema 1, this app reads 2; convert", m -> m.set("schema_version", 1));
    refusedWith("no schema_version", m -> m.remove("schema_version"));
    refusedWith("unknown key extra", m -> m.add("extra", 1));
    refusedWith("key name twice", m -> m.add("name", "x"));
    refusedWith("decoder has the unknown key odd", m -> at(m, "decoder").add("odd", 1));
    refusedWith("gives vectors only", m -> at(m, "decoder").add("is_causal", false));
    refusedWith("mixer.kv_heads is missing", m -> mixer(m, 0).remove("kv_heads"));
    refusedWith("mixer has the unknown key odd", m -> mixer(m, 1).add("odd", 1));
    refusedWith("several sizes or layers that share", m -> mixer(m, 1).set("head_size", 8));
    refusedWith("several sizes or layers that share", m -> mixer(m, 1).set("reads", 0));
    refusedWith("windows of several sizes", m -> mixer(m, 0).set("window", 5));
    refusedWith("cannot be", m -> mixer(m, 0).set("kv_heads", 1 << 20));
    refusedWith("cannot be", m -> at(m, "decoder").set("blocks", new JsonArray()));
    refusedWith("cannot be", m -> at(m, "decoder").set("vocab_size", 1 << 30));
    refusedWith("not an integer", m -> at(m, "decoder").set("vocab_size", 700.5));
    refusedWith("eos_ids is not a list", m -> at(m, "tokenizer").set("eos_ids", "x"));
    refusedWith("token 700, outside", m -> at(m, "tokenizer").set("eos_ids", new JsonArray().add(700)));
    refusedWith("impossible size", m -> at(m, "variants", "0", "steps", "0").set("cells", 0));
    refusedWith("impossible size", m -> at(m, "variants", "0", "steps", "0").set("rows", 2));
    refusedWith("variants[0] has the unknown key odd", m -> at(m, "variants", "0").add("odd", 1));
    refusedWith("no digest", m -> at(m, "files", "tokenizer.json").set("sha256", "../x"));
    refused("no manifest.json", () -> new EdgeBundle(folder.resolve("nowhere").toFile()));
    refused("not a JSON object", () -> Manifest.parse("[]".getBytes(StandardCharsets.UTF_8)));
    refused("not JSON", () -> Manifest.parse(new byte[] {'{', '"', (byte) 0xFF, '"', '}'}));
    refusedWith(
        "more than 10000 files",
        m -> {
          JsonObject files = at(m, "files");
          for (int i = 0; i < 10_000; i++) {
            files.add("f" + i, new JsonObject());
          }
        });
    refused("larger than", () -> Manifest.parse(new byte[Manifest.LIMIT_BYTES + 1]));
    refusedWith("gates cannot have", m -> at(m, "variants", "0").set("stacks", takes("gates", 65)));
    refusedWith("gates cannot have", m -> at(m, "variants", "0").set("stacks", takes("gates", 0)));
  }

  @Test
  void gatesOfAdaptersAreCounted() throws Exception {
    assertEquals(0, write(m -> {}).variant("onnx-step", null).gates);
    EdgeBundle adapted =
        write(
            m -> {
              m.set("adapters", Json.parse("[{\"name\": \"a\", \"gate\": 0}]"));
              at(m, "variants", "0").set("stacks", takes("gates", 2));
            });
    assertEquals(2, adapted.variant("onnx-step", null).gates);
  }

  private static JsonValue takes(String input, int count) {
    return Json.parse(
        "[{\"name\": \"main\", \"inputs\": [{\"name\": \"" + input + "\", \"dims\": [\"T\", " + count + "]}]}]");
  }

  private void refusedWith(String needle, Consumer<JsonObject> change) {
    refused(needle, () -> write(change));
  }

  @Test
  void variantsThatNeedMoreAreRefused() throws Exception {
    EdgeBundle other = write(m -> at(m, "variants", "0").set("format", "litert"));
    refused("it has: w8", () -> other.variant("onnx-step", null));
    EdgeBundle eighths = write(m -> at(m, "variants", "0").set("cell_type", "int8"));
    refused("int8 cells", () -> eighths.variant("onnx-step", null));
    EdgeBundle partial = write(m -> at(m, "decoder").set("head_rows", 5));
    refused("head for some tokens", () -> partial.variant("onnx-step", "w8"));
    EdgeBundle none = write(m -> at(m, "variants", "0").set("steps", new JsonArray()));
    refused("no step sizes", () -> none.variant("onnx-step", null));
  }

  @Test
  void filesStayInsideAndWhole() throws Exception {
    JsonObject record = new JsonObject().add("sha256", "0".repeat(64)).add("size_bytes", 5);
    EdgeBundle bundle =
        write(
            m -> {
              JsonObject files = new JsonObject();
              for (String name : new String[] {"../x", "a//b", "c\\d", "tokenizer.json", "absent"}) {
                files.add(name, record);
              }
              m.set("files", files);
            });
    for (String name : new String[] {"../x", "a//b", "c\\d"}) {
      refused("no name within a bundle", () -> bundle.file(name));
    }
    refused("the manifest says 5", () -> bundle.file("tokenizer.json"));
    refused("lacks absent", () -> bundle.file("absent"));
    refused("not a file of the bundle", () -> bundle.file("unlisted"));
    EdgeBundle whole = write(m -> {});
    flip(folder.resolve("tokenizer.json"));
    refused("not the file that the manifest describes", whole::verify);
  }

  private static void flip(Path file) throws IOException {
    byte[] data = Files.readAllBytes(file);
    data[data.length / 2] ^= 1;
    Files.write(file, data);
  }

  @Test
  void aVariantThatTakesTooMuchMemoryIsRefused() throws Exception {
    EdgeBundle bundle = write(m -> {});
    Variant variant = bundle.variant("onnx-step", null);
    assertEquals(64L * 2 * 2 * 4 * 4, MemoryLimit.cellBytes(variant, 10));
    MemoryLimit.expect(bundle, variant, 64, 1 << 20);
    refused("0 MiB are free", () -> MemoryLimit.expect(bundle, variant, 64, 100));
  }
}
