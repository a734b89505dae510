package edgemodel.steps;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.Vectors;
import edgemodel.bundle.StepShape;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class StepTest {
  private static final JsonObject VECTORS = Vectors.load("steps.json").asObject();

  private static List<StepShape> sizes() {
    List<StepShape> found = new ArrayList<>();
    for (JsonObject size : Vectors.objects(VECTORS.get("sizes"))) {
      found.add(
          new StepShape(
              size.get("tokens").asInt(),
              size.get("cells").asInt(),
              size.get("rows").asInt(),
              size.get("signature").asString(),
              "main"));
    }
    return found;
  }

  private static StepShape size(int tokens, int cells, int rows) {
    return new StepShape(tokens, cells, rows, "s" + tokens, "main");
  }

  @Test
  void sizesArePickedAsInPython() {
    StepSizes sizes = new StepSizes(sizes(), VECTORS.get("context").asInt());
    for (JsonObject pick : Vectors.objects(VECTORS.get("picks"))) {
      StepShape found =
          sizes.pick(pick.get("tokens").asInt(), 1, pick.get("used").asInt(), pick.get("held").asInt());
      assertEquals(pick.get("signature").asString(), found.signature, pick.toString());
    }
    for (JsonObject piece : Vectors.objects(VECTORS.get("pieces"))) {
      assertEquals(
          piece.get("piece").asInt(), sizes.piece(piece.get("wanted").asInt(), piece.get("used").asInt()));
    }
    refused("larger than any on offer", () -> sizes.pick(17, 1, 0, 16));
    refused("48 cells at most", () -> new StepSizes(sizes(), 49));
    StepSizes rows = new StepSizes(List.of(size(8, 16, 1), size(8, 16, 8), size(4, 16, 4)), 16);
    assertEquals(8, rows.pick(6, 2, 0, 16).rows);
    assertEquals(1, rows.pick(6, 1, 0, 16).rows);
    assertEquals(7, rows.mostDrafted());
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void twoSequencesGiveTheStepsThatTheyGiveInPython(boolean newFirst) {
    RecordingModel model = new RecordingModel(sizes(), VECTORS.get("window").asInt(), 64, newFirst);
    StepRunner runner = new StepRunner(model, VECTORS.get("context").asInt());
    Map<String, TokenSequence> sequences = Map.of("a", runner.newSequence(), "b", runner.newSequence());
    for (JsonObject operation : Vectors.objects(VECTORS.get("operations"))) {
      TokenSequence sequence = sequences.get(operation.get("sequence").asString());
      model.steps.clear();
      if (operation.get("verb").asString().equals("truncate")) {
        sequence.truncate(operation.get("count").asInt());
      } else {
        sequence.extend(Vectors.integers(operation.get("tokens")), null);
      }
      List<RecordingModel.Step> expected = new ArrayList<>();
      for (JsonObject step : Vectors.objects(operation.get("steps"))) {
        expected.add(
            new RecordingModel.Step(
                step.get("signature").asString(),
                list(step.get("tokens")),
                list(step.get("positions")),
                lists(step.get("mask")),
                lists(step.get("window_mask"))));
      }
      assertEquals(expected, model.steps, operation.toString());
    }
  }

  private static List<Integer> list(JsonValue value) {
    return IntStream.of(Vectors.integers(value)).boxed().toList();
  }

  private static List<List<Integer>> lists(JsonValue value) {
    return value.asArray().values().stream().map(StepTest::list).toList();
  }

  @Test
  void everyTokenSeesItsOwnSequenceWhateverTheCellsAndChunks() {
    RecordingModel model = new RecordingModel(sizes(), 0, 64, true);
    StepRunner runner = new StepRunner(model, 48);
    List<TokenSequence> sequences = List.of(runner.newSequence(), runner.newSequence());
    List<List<Integer>> texts = List.of(new ArrayList<>(), new ArrayList<>());
    Random random = new Random(11);
    for (int round = 0; round < 300; round++) {
      TokenSequence sequence = sequences.get(round * 7 % 2);
      List<Integer> text = texts.get(round * 7 % 2);
      if (round % 5 == 4) {
        int length = random.nextInt(text.size() + 1);
        sequence.truncate(length);
        text.subList(length, text.size()).clear();
      }
      int[] added = random.ints(1 + random.nextInt(20), 0, 64).toArray();
      if (texts.get(0).size() + texts.get(1).size() + added.length > 48) {
        sequence.truncate(0);
        text.clear();
        continue;
      }
      if (round % 3 == 0) {
        int kept = random.nextInt(added.length + 1);
        boolean fits = added.length <= 8;
        if (fits) {
          sequence.judge(added, added.length, rows -> kept);
        }
        IntStream.range(0, fits ? kept : 0).forEach(i -> text.add(added[i]));
      } else {
        sequence.extend(added, null);
        IntStream.of(added).forEach(text::add);
        assertEquals(text, model.seen.get(model.seen.size() - 1), "round " + round);
      }
      assertEquals(text, IntStream.range(0, sequence.length()).mapToObj(sequence::token).toList());
      assertEquals(texts.get(0).size() + texts.get(1).size(), runner.usedCells());
    }
    sequences.forEach(TokenSequence::close);
    assertEquals(0, runner.usedCells());
    runner.shrink();
    assertEquals(16L * 2 * 2 * 2 * 4 * 4, runner.cellBytes());
  }

  @Test
  void whatDoesNotFitChangesNothing() {
    RecordingModel model = new RecordingModel(List.of(size(4, 16, 1)), 0, 64, false);
    StepRunner runner = new StepRunner(model, 16);
    TokenSequence a = runner.newSequence();
    TokenSequence b = runner.newSequence();
    a.extend(IntStream.range(0, 10).toArray(), null);
    refused("exceed the context", () -> a.extend(new int[7], null));
    refused("6 are free", () -> b.extend(new int[7], null));
    refused("no tokens", () -> b.extend(new int[0], null));
    refused("vocabulary", () -> b.extend(new int[] {64}, null));
    refused("vocabulary", () -> b.extend(new int[] {-1}, null));
    model.spoilsKeys = true;
    refused("not finite", () -> b.extend(new int[] {1}, null));
    assertEquals(10, a.length());
    assertEquals(0, b.length());
    assertEquals(10, runner.usedCells());
    assertThrows(IllegalStateException.class, () -> a.judged(0));
    runner.close();
    refused("closed", () -> a.extend(new int[] {1}, null));
  }

  @Test
  void memoryKnowsItsBounds() {
    refused("more than 2 GiB", () -> TensorMemory.byteCount(1 << 16, 1 << 16));
    assertThrows(IllegalArgumentException.class, () -> new TensorMemory(ByteBuffer.allocate(8), 2));
    assertThrows(IllegalArgumentException.class, () -> new TensorMemory(ByteBuffer.allocateDirect(4), 2));
  }

  @Test
  void memoryBeginsOnALineOfTheCache() {
    for (int count : new int[] {1, 15, 16, 17, 1000, 100_000}) {
      TensorMemory memory = TensorMemory.allocate(count);
      assertEquals(0, memory.bytes.alignmentOffset(0, 64));
      assertEquals(count, memory.count());
      assertEquals(0f, memory.floats().get(count - 1));
    }
  }
}
