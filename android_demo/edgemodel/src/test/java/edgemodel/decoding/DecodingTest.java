package edgemodel.decoding;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.Vectors;
import edgemodel.bundle.StepShape;
import edgemodel.device.Heat;
import edgemodel.device.ThermalGovernor;
import edgemodel.steps.RecordingModel;
import edgemodel.steps.StepRunner;
import edgemodel.steps.TokenSequence;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

final class DecodingTest {
  private static final int[] END = {Letters.END};

  /** Keeps all that a listener gets. */
  private static final class Heard implements AnswerListener {
    final List<String> pieces = Collections.synchronizedList(new ArrayList<>());
    volatile Completion completion;
    volatile RuntimeException error;

    @Override
    public void onText(String piece) {
      pieces.add(piece);
    }

    @Override
    public void onEnd(Completion completion) {
      this.completion = completion;
    }

    @Override
    public void onError(RuntimeException error) {
      this.error = error;
    }
  }

  private static GenerationOptions options() {
    return new GenerationOptions(SamplingOptions.greedy());
  }

  private static Generation start(TokenSequence sequence, GenerationOptions options, int... prompt) {
    return new Generation(prompt, sequence, new Letters(), END, options, null);
  }

  private static float[] logits() {
    List<JsonValue> values = Vectors.at(Vectors.load("sampling.json"), "logits").asArray().values();
    float[] logits = new float[values.size()];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = values.get(i).asFloat();
    }
    return logits;
  }

  @Test
  void filtersKeepAndDrawWhatPythonDoes() {
    JsonObject vectors = Vectors.load("sampling.json").asObject();
    for (JsonObject example : Vectors.objects(vectors.get("cases"))) {
      JsonValue topK = example.get("top_k");
      SamplingOptions options =
          new SamplingOptions(
              example.get("temperature").asFloat(),
              topK.isNull() ? 0 : topK.asInt(),
              example.get("top_p").asFloat(),
              example.get("min_p").asFloat(),
              1,
              1L);
      Candidates kept = new Sampler(options).filtered(logits());
      assertArrayEquals(Vectors.integers(example.get("kept")), kept.ids(), example.toString());
      int[] drawn =
          example.get("units").asArray().values().stream().mapToInt(unit -> kept.draw(unit.asDouble())).toArray();
      assertArrayEquals(Vectors.integers(example.get("drawn")), drawn, example.toString());
    }
    JsonObject random = vectors.get("splitmix64").asObject();
    SplitMix64 numbers = new SplitMix64(random.get("seed").asLong());
    for (String number : Vectors.texts(random.get("numbers"))) {
      assertEquals(number, Long.toUnsignedString(numbers.next()));
    }
  }

  @Test
  void greedyTakesTheLowestOfEquals() {
    Sampler sampler = new Sampler(SamplingOptions.greedy());
    assertEquals(1, sampler.choose(new float[] {0, 3, 3, Float.NEGATIVE_INFINITY}));
    refused("not finite", () -> sampler.choose(new float[] {0, Float.NaN}));
    refused("not finite", () -> sampler.choose(new float[] {Float.NaN, 1}));
    refused("not finite", () -> sampler.choose(new float[] {0, Float.POSITIVE_INFINITY}));
    refused("not finite", () -> sampler.choose(new float[] {Float.NEGATIVE_INFINITY}));
  }

  @Test
  void theSameSeedDrawsTheSameTokens() {
    assertArrayEquals(draws(1), draws(1));
    assertNotEquals(IntStream.of(draws(1)).boxed().toList(), IntStream.of(draws(2)).boxed().toList());
  }

  private static int[] draws(long seed) {
    Sampler sampler = new Sampler(new SamplingOptions(1.2f, 0, 0.95f, 0, 1, seed));
    return IntStream.range(0, 40).map(i -> sampler.choose(logits())).toArray();
  }

  @Test
  void repetitionIsPenalised() {
    Sampler sampler = new Sampler(new SamplingOptions(0, 0, 1, 0, 2, null));
    sampler.observe(2);
    assertEquals(1, sampler.choose(new float[] {1, 1.5f, 2.9f, -1})); // 2.9 became 1.45
    assertEquals(2, sampler.choose(new float[] {1, 1.5f, 2.9f, -1})); // and 1.5 became 0.75
  }

  @Test
  void optionsWithoutMeaningAreRefusedByName() {
    refused("temperature", () -> new SamplingOptions(-1, 0, 1, 0, 1, null));
    refused("temperature", () -> new SamplingOptions(Float.NaN, 0, 1, 0, 1, null));
    refused("topK", () -> new SamplingOptions(1, -1, 1, 0, 1, null));
    refused("topP", () -> new SamplingOptions(1, 0, 0, 0, 1, null));
    refused("minP", () -> new SamplingOptions(1, 0, 1, 2, 1, null));
    refused("repetitionPenalty", () -> new SamplingOptions(1, 0, 1, 0, 0, null));
    refused("maxTokens", () -> options().withMaxTokens(0));
  }

  @Test
  void anAnswerEndsWithTheModelsEndToken() {
    ScriptedSequence sequence = new ScriptedSequence(100, 2, 2, 28, 29, 27, 3, 26);
    Heard heard = new Heard();
    Completion completion = start(sequence, options().withDrafts(false), 0, 1).run(heard);
    assertEquals(List.of("c", "é", "d"), heard.pieces); // never half a character, no special token
    assertEquals("céd", completion.text);
    assertArrayEquals(new int[] {2, 28, 29, 27, 3, 26}, completion.tokens);
    assertEquals(FinishReason.STOP, completion.finishReason);
    assertEquals(2, completion.promptTokens);
    assertEquals(List.of(List.of(0, 1), List.of(2), List.of(28), List.of(29), List.of(27), List.of(3)), sequence.ran);
  }

  @Test
  void stopStringsLimitsAndTheContextEndIt() {
    int[] script = IntStream.range(2, 26).toArray();
    Completion found = start(new ScriptedSequence(100, 2, script), options().withStop(List.of("fgh", "zz")), 0, 1).run(null);
    assertEquals("cde", found.text);
    assertEquals(FinishReason.STOP_STRING, found.finishReason);
    GenerationOptions four = options().withMaxTokens(4).withStop(List.of("fg"));
    found = start(new ScriptedSequence(100, 2, script), four, 0, 1).run(null);
    assertEquals("cdef", found.text); // held back for a stop string that never came
    assertEquals(FinishReason.LENGTH, found.finishReason);
    found = start(new ScriptedSequence(5, 2, script), options(), 0, 1).run(null);
    assertEquals(4, found.tokens.length);
    assertEquals(FinishReason.LENGTH, found.finishReason);
  }

  @Test
  void whatCannotRunSaysSo() throws Exception {
    refused("empty", () -> start(new ScriptedSequence(100, 2, 2), options()));
    refused("stop string", () -> start(new ScriptedSequence(100, 2, 2), options().withStop(List.of("")), 1));
    Heard heard = new Heard();
    Generation answer = start(new ScriptedSequence(100, 2, 2), options(), new int[101]);
    answer.start(heard);
    answer.join();
    assertTrue(heard.error.getMessage().contains("101 tokens"), heard.error.getMessage());
    assertThrows(IllegalStateException.class, () -> answer.run(null));
  }

  @Test
  void cancellingEndsItAfterTheStepThatRuns() throws Exception {
    CountDownLatch reached = new CountDownLatch(10);
    int[] script = new int[1_000_000];
    ScriptedSequence sequence = new ScriptedSequence(1_000_000, 2, script);
    sequence.onStep = reached::countDown;
    Heard heard = new Heard();
    Generation answer = start(sequence, options().withDrafts(false), 0, 1);
    answer.start(heard);
    assertTrue(reached.await(20, TimeUnit.SECONDS));
    answer.cancel();
    answer.join();
    assertEquals(FinishReason.CANCELLED, heard.completion.finishReason);
    assertTrue(heard.completion.tokens.length < 999_000);
    assertFalse(heard.completion.text.isEmpty());
    Generation before = start(new ScriptedSequence(100, 2, 2, 26), options(), 0, 1);
    before.cancel();
    assertEquals(FinishReason.CANCELLED, before.run(null).finishReason);
  }

  @Test
  void theNextTurnRunsOnlyWhatIsNew() {
    RecordingModel model = model();
    StepRunner runner = new StepRunner(model, 64);
    TokenSequence sequence = runner.newSequence();
    GenerationOptions five = options().withMaxTokens(5).withDrafts(false);
    Completion first = start(sequence, five, 1, 2, 3).run(null);
    int[] next = IntStream.concat(IntStream.concat(IntStream.of(1, 2, 3), IntStream.of(first.tokens)), IntStream.of(7, 8)).toArray();
    model.steps.clear();
    Completion second = start(sequence, five, next).run(null);
    assertEquals(3 + 4, second.reusedTokens); // the last token of an answer is not run
    assertEquals(List.of(first.tokens[4], 7, 8), model.steps.get(0).tokens());
    Completion whole = start(runner.newSequence(), five, next).run(null);
    assertArrayEquals(whole.tokens, second.tokens);
    assertEquals(0, whole.reusedTokens);
    Completion again = start(sequence, five, next).run(null);
    assertArrayEquals(second.tokens, again.tokens);
    assertEquals(next.length - 1, again.reusedTokens); // its last token is run again, for its logits
  }

  private static RecordingModel model() {
    List<StepShape> sizes = new ArrayList<>();
    for (int tokens : new int[] {1, 4, 8}) {
      sizes.add(new StepShape(tokens, 64, tokens, "s" + tokens, "main"));
    }
    return new RecordingModel(sizes, 0, 26, true);
  }

  @Test
  void draftsChangeNothingButTheSteps() {
    int[] script = IntStream.range(0, 60).map(i -> i % 40 == 39 ? 9 : i % 4).toArray();
    script[55] = 26;
    for (SamplingOptions sampling :
        List.of(SamplingOptions.greedy(), new SamplingOptions(0.8f, 0, 0.9f, 0, 1.1f, 5L))) {
      for (GenerationOptions options :
          List.of(
              new GenerationOptions(sampling),
              new GenerationOptions(sampling).withMaxTokens(17),
              new GenerationOptions(sampling).withStop(List.of("cdj")))) {
        ScriptedSequence plain = new ScriptedSequence(70, 3, script);
        ScriptedSequence drafted = new ScriptedSequence(70, 3, script);
        Completion expected = start(plain, options.withDrafts(false), 0, 1, 2).run(null);
        Completion found = start(drafted, options, 0, 1, 2).run(null);
        assertArrayEquals(expected.tokens, found.tokens);
        assertEquals(expected.text, found.text);
        assertEquals(expected.finishReason, found.finishReason);
        assertEquals(0, expected.drafted);
        assertTrue(found.accepted > 4 && found.steps < expected.steps, found.accepted + " kept");
        // What is held is the text, its last token apart.
        assertEquals(3 + found.tokens.length - 1, drafted.length());
      }
    }
    RecordingModel model = model();
    Completion expected = start(new StepRunner(model, 64).newSequence(), options().withMaxTokens(40).withDrafts(false), 1, 2, 1, 2, 1).run(null);
    Completion found = start(new StepRunner(model(), 64).newSequence(), options().withMaxTokens(40), 1, 2, 1, 2, 1).run(null);
    assertArrayEquals(expected.tokens, found.tokens);
    assertTrue(found.drafted > 0);
  }

  @Test
  void guessesAreWhatFollowedTheLongestMatch() {
    LookupDrafts drafts = new LookupDrafts();
    for (int token : new int[] {1, 2, 3, 9, 5, 2, 3, 8, 1, 2, 3}) {
      drafts.add(token);
    }
    int[] into = new int[8];
    assertEquals(3, drafts.guess(into, 1, 3));
    assertArrayEquals(new int[] {0, 9, 5, 2, 0, 0, 0, 0}, into);
    assertEquals(0, drafts.guess(into, 0, 0));
    for (int i = 0; i < 3; i++) {
      drafts.judged(3, 0);
    }
    assertEquals(0, drafts.guess(into, 0, 3)); // it rests after misses
    LookupDrafts loop = new LookupDrafts();
    for (int token : new int[] {4, 5, 4, 5}) {
      loop.add(token);
    }
    assertEquals(4, loop.guess(into, 0, 4));
    assertArrayEquals(new int[] {4, 5, 4, 5}, IntStream.range(0, 4).map(i -> into[i]).toArray());
  }

  @Test
  void theGovernorWaitsWhileTheDeviceIsCritical() {
    AtomicInteger looks = new AtomicInteger();
    ThermalGovernor.Device device =
        new ThermalGovernor.Device() {
          @Override
          public Heat heat() {
            return looks.incrementAndGet() < 4 ? Heat.CRITICAL : Heat.NOMINAL;
          }

          @Override
          public boolean savesPower() {
            return false;
          }
        };
    assertTrue(new ThermalGovernor(device, 60, 30, 1).rest(() -> false));
    assertTrue(looks.get() >= 4);
    looks.set(0);
    assertFalse(new ThermalGovernor(device, 60, 30, 1).rest(() -> true));
    assertEquals(60, new ThermalGovernor(at(Heat.SERIOUS, true)).pauseMs());
    assertEquals(30, new ThermalGovernor(at(Heat.FAIR, true)).pauseMs());
    assertEquals(0, new ThermalGovernor(at(Heat.FAIR, false)).pauseMs());
  }

  private static ThermalGovernor.Device at(Heat heat, boolean saves) {
    return new ThermalGovernor.Device() {
      @Override
      public Heat heat() {
        return heat;
      }

      @Override
      public boolean savesPower() {
        return saves;
      }
    };
  }
}
