package edgemodel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.bundle.EdgeBundle;
import edgemodel.decoding.Completion;
import edgemodel.decoding.GenerationOptions;
import edgemodel.decoding.SamplingOptions;
import edgemodel.steps.TokenSequence;
import edgemodel.text.ChatMessage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.function.Function;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;

/**
 * Compares a runtime with what edgesdk in Python says of bundles that android_demo/make_test_bundles.py made;
 * the system property `bundles` names their folder. Without it, these tests are skipped.
 */
public final class RuntimeChecks {
  private RuntimeChecks() {}

  /** The folder of the bundles; skips the test without one. */
  public static Path folder() {
    String folder = System.getProperty("bundles", "");
    Assumptions.assumeFalse(folder.isEmpty(), "no bundles: run android_demo/make_test_bundles.py");
    return Path.of(folder);
  }

  /**
   * A test for each bundle.
   *
   * @param load opens a bundle with the runtime.
   */
  public static Collection<DynamicTest> all(Function<EdgeBundle, EdgeModel> load) throws IOException {
    JsonObject document = Json.parse(Files.readString(folder().resolve("expected.json"))).asObject();
    List<DynamicTest> tests = new ArrayList<>();
    for (JsonObject bundle : Vectors.objects(document.get("bundles"))) {
      String name = bundle.get("name").asString();
      tests.add(
          DynamicTest.dynamicTest(
              name,
              () -> {
                EdgeBundle opened = new EdgeBundle(folder().resolve(name).toFile());
                opened.verify();
                try (EdgeModel model = load.apply(opened)) {
                  for (JsonObject example : Vectors.objects(bundle.get("cases"))) {
                    check(model, example, document.get("tolerance").asFloat());
                  }
                  checkChat(model, bundle);
                }
              }));
    }
    return tests;
  }

  private static void check(EdgeModel model, JsonObject example, float tolerance) {
    String prompt = example.get("prompt").asString();
    int[] ids = Vectors.integers(example.get("ids"));
    assertArrayEquals(ids, model.encode(prompt), prompt);
    int[] greedy = Vectors.integers(example.get("greedy"));
    float limit = tolerance * example.get("largest").asFloat();
    int clear = clear(example, limit);
    try (TokenSequence sequence = model.newSequence()) {
      expectTop(example, sequence.extend(ids, null), limit);
      // What is taken back leaves nothing behind.
      sequence.extend(greedy, null);
      sequence.truncate(ids.length - 1);
      expectTop(example, sequence.extend(Arrays.copyOfRange(ids, ids.length - 1, ids.length), null), limit);
    }
    for (boolean drafts : new boolean[] {false, true}) {
      GenerationOptions options =
          new GenerationOptions(SamplingOptions.greedy()).withMaxTokens(greedy.length).withDrafts(drafts);
      try (TokenSequence sequence = model.newSequence()) {
        Completion found = model.generate(ids, sequence, options).run(null);
        int compared = Math.min(clear, found.tokens.length);
        assertTrue(compared == clear || found.tokens.length < greedy.length, prompt);
        assertArrayEquals(
            Arrays.copyOf(greedy, compared), Arrays.copyOf(found.tokens, compared), prompt + " " + drafts);
      }
    }
  }

  /** How many greedy tokens lead the runner-up by more than rounding. */
  private static int clear(JsonObject example, float limit) {
    int clear = 0;
    for (JsonValue margin : example.get("margins").asArray()) {
      if (margin.asFloat() <= 2 * limit) {
        break;
      }
      clear++;
    }
    return clear;
  }

  private static void expectTop(JsonObject example, float[] logits, float limit) {
    for (JsonValue entry : example.get("top").asArray()) {
      int id = entry.asArray().get(0).asInt();
      assertEquals(entry.asArray().get(1).asFloat(), logits[id], limit, "logit of token " + id);
    }
  }

  /** Two turns of a chat give what the whole conversation gives at once. */
  private static void checkChat(EdgeModel model, JsonObject bundle) {
    assertEquals(bundle.get("chat_prompt").asString(), model.chatFormat.prompt(chat("Hello")));
    GenerationOptions options = new GenerationOptions(SamplingOptions.greedy()).withMaxTokens(6);
    try (TokenSequence kept = model.newSequence();
        TokenSequence other = model.newSequence()) {
      Completion first = model.chat(chat("Hello"), kept, options).run(null);
      List<ChatMessage> both = new ArrayList<>(chat("Hello"));
      both.add(new ChatMessage("assistant", first.text));
      both.add(new ChatMessage("user", "And then?"));
      Completion next = model.chat(both, kept, options).run(null);
      assertTrue(next.reusedTokens >= first.promptTokens);
      assertArrayEquals(model.chat(both, other, options).run(null).tokens, next.tokens);
    }
  }

  private static List<ChatMessage> chat(String text) {
    return List.of(new ChatMessage("user", text));
  }
}
