package edgemodel;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonArray;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import com.sun.management.OperatingSystemMXBean;
import com.sun.management.ThreadMXBean;
import edgemodel.decoding.AnswerListener;
import edgemodel.decoding.Completion;
import edgemodel.decoding.GenerationOptions;
import edgemodel.decoding.SamplingOptions;
import edgemodel.notes.NotesPipeline;
import edgemodel.notes.NotesPlan;
import edgemodel.steps.TokenSequence;
import edgemodel.text.ChatMessage;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * Answers prompts for benchmarks and Python's tests: requests are lines of JSON on standard input, `{"ids":
 * [..]}` or `{"chat": ".."}` with `max_tokens` and `drafts`; each is answered greedily by a line with tokens
 * and figures. `{"text": ".."}` asks for its ids alone, `{"notes": "..", "plan": {..}}` for what
 * NotesPipeline finds. Processor time is that of the process, garbage what the answering thread allocated while
 * tokens after the first were made.
 */
public final class PromptRunner {
  private static final OperatingSystemMXBean PROCESS =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

  private PromptRunner() {}

  /** Serves until the input ends, then closes the model. */
  public static void serve(EdgeModel model) throws IOException {
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    System.out.println(new JsonObject().add("receipt", model.receipt.toString()));
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      System.out.println(answer(model, Json.parse(line).asObject()));
    }
    model.close();
  }

  private static JsonObject answer(EdgeModel model, JsonObject request) {
    if (request.get("text") != null) {
      return new JsonObject().add("ids", list(model.coder.encode(request.get("text").asString())));
    }
    if (request.get("notes") != null) {
      byte[] plan = request.get("plan").toString().getBytes(StandardCharsets.UTF_8);
      NotesPipeline pipeline =
          new NotesPipeline(model, NotesPlan.parse(plan), request.get("notes").asString());
      JsonObject found = new JsonObject();
      pipeline.run().forEach(found::add);
      return found;
    }
    int[] prompt =
        request.get("chat") == null
            ? Vectors.integers(request.get("ids"))
            : model.coder.encode(
                model.chatFormat.prompt(
                    List.of(new ChatMessage("user", request.get("chat").asString()))));
    GenerationOptions options =
        new GenerationOptions(SamplingOptions.greedy())
            .withMaxTokens(request.getInt("max_tokens", 48))
            .withDrafts(request.getBoolean("drafts", false));
    long cpu = PROCESS.getProcessCpuTime();
    long[] marks = new long[2];
    Completion completion;
    try (TokenSequence sequence = model.newSequence()) {
      AnswerListener listener = new Marker(marks);
      completion = model.generate(prompt, sequence, options).run(listener);
    }
    cpu = PROCESS.getProcessCpuTime() - cpu;
    JsonValue garbage = marks[1] > 0 ? Json.value((double) marks[0] / marks[1]) : Json.NULL;
    return new JsonObject()
        .add("prompt", list(prompt))
        .add("tokens", list(completion.tokens))
        .add("text", completion.text)
        .add("first_ms", completion.firstTokenMs)
        .add("later_ms", completion.laterMs)
        .add("cpu_ms", cpu / 1e6)
        .add("steps", completion.steps)
        .add("accepted", completion.accepted)
        .add("garbage_bytes_a_piece", garbage);
  }

  private static JsonArray list(int[] values) {
    JsonArray list = new JsonArray();
    for (int value : values) {
      list.add(value);
    }
    return list;
  }

  /** Sums what is allocated between two pieces of text, the listener's own work left out. */
  private static final class Marker implements AnswerListener {
    private final long[] marks;
    private long before = -1;

    Marker(long[] marks) {
      this.marks = marks;
    }

    @Override
    public void onText(String piece) {
      long now = THREADS.getCurrentThreadAllocatedBytes();
      if (before >= 0) {
        marks[0] += now - before;
        marks[1]++;
      }
      before = THREADS.getCurrentThreadAllocatedBytes();
    }

    @Override
    public void onEnd(Completion completion) {}

    @Override
    public void onError(RuntimeException error) {}
  }
}
