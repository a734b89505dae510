package edgemodel.bundle;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.EdgeModel;
import edgemodel.Vectors;
import edgemodel.steps.RecordingModel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.function.Consumer;

/** A small bundle without a model: a manifest, a tokenizer, a chat format. */
public final class TinyBundle {
  private static final String MANIFEST =
      """
      {"schema_version": 2, "name": "tiny", "licence": null, "created_by": "edgesdk", "source": {},
       "decoder": {"vocab_size": 700, "architecture": "llama", "blocks": [
         {"number": 0, "mixer": {"kv_heads": 1, "head_size": 4, "rotary": null, "window": null, "reads": null},
          "feed_forward": null},
         {"number": 1, "mixer": {"kv_heads": 1, "head_size": 4, "rotary": null, "window": 6},
          "feed_forward": null}]},
       "tokenizer": {"bos_id": 1, "eos_ids": [2], "add_bos": true, "bos_token": "<s>", "eos_token": null},
       "generation": {"temperature": 0.5, "top_k": null, "top_p": 0.9, "repetition_penalty": null},
       "variants": [{"name": "w8", "format": "onnx-step", "recipe": "w8", "entry": "variants/w8/s.onnx",
         "context": 64, "device_classes": ["npu"], "parity": null, "steps": [
           {"tokens": 1, "cells": 64, "rows": 1, "signature": "step_1_64", "stack": "main"},
           {"tokens": 1, "cells": 64, "rows": 1, "signature": "draft_1_64", "stack": "draft"}]}],
       "files": {}}
      """;

  private TinyBundle() {}

  /** Writes one whose manifest is changed before. */
  public static EdgeBundle write(Path folder, Consumer<JsonObject> change) throws Exception {
    byte[] tokenizer = Vectors.bytes("tokenizer_digits.json");
    Files.createDirectories(folder);
    Files.write(folder.resolve("tokenizer.json"), tokenizer);
    JsonObject manifest = Json.parse(MANIFEST).asObject();
    String digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(tokenizer));
    JsonObject record = new JsonObject().add("sha256", digest).add("size_bytes", tokenizer.length);
    manifest.get("files").asObject().set("tokenizer.json", record);
    change.accept(manifest);
    Files.writeString(folder.resolve("manifest.json"), manifest.toString());
    JsonValue format = Vectors.at(Vectors.load("chat.json"), "0", "format");
    Files.writeString(folder.resolve("chat_format.json"), format.toString());
    return new EdgeBundle(folder.toFile());
  }

  /** The bundle with a model that says what it was told. */
  public static EdgeModel load(EdgeBundle bundle) {
    Variant variant = bundle.variant("onnx-step", null);
    RecordingModel model = new RecordingModel(variant.mainSteps, variant.decoder.window, 700, false);
    return new EdgeModel(bundle, variant, model, null, "a recording", System.nanoTime());
  }
}
