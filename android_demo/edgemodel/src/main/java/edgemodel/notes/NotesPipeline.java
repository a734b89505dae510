package edgemodel.notes;

import edgemodel.EdgeModel;
import edgemodel.EdgeModelException;
import edgemodel.decoding.Completion;
import edgemodel.decoding.FinishReason;
import edgemodel.decoding.Generation;
import edgemodel.decoding.GenerationOptions;
import edgemodel.decoding.SamplingOptions;
import edgemodel.steps.TokenSequence;
import edgemodel.text.ChatMessage;
import edgemodel.text.WhiteSpace;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Notes in; minutes, tags and a reply out, as examples/phone_notes.py has it, text for text in float32.
 *
 * <p>Fields are written behind the JSON so far and end with its quote: that keeps the form without a grammar.
 * All prompts begin with the notes, whose cells one sequence keeps. Blocks for seconds: call it on a thread of
 * its own; `cancel` comes from any.
 */
public final class NotesPipeline {
  private static final List<String> NO_STOP = Collections.<String>emptyList();

  private final EdgeModel model;
  private final NotesPlan plan;
  private final String notes;
  private final Map<String, String> found = new LinkedHashMap<String, String>();
  private volatile boolean cancelled;
  private volatile Generation running;

  /**
   * @param model with a chat format.
   * @param notes what the user wrote, without white space at its ends.
   */
  public NotesPipeline(EdgeModel model, NotesPlan plan, String notes) {
    if (model.chatFormat == null) {
      throw EdgeModelException.option(
          "the bundle has no chat_format.json; run ios_notes/prepare_bundle.py on it");
    }
    this.model = model;
    this.plan = plan;
    this.notes = notes;
  }

  /**
   * All stages.
   *
   * @return what was found, by name, and the `reply`; null when it was cancelled.
   * @throws EdgeModelException kind CAPACITY: the notes do not fit; DEVICE: the runtime failed.
   */
  public Map<String, String> run() {
    try (TokenSequence sequence = model.newSequence()) {
      return extract(sequence) && ask(sequence) && rewrite(sequence)
          ? Collections.unmodifiableMap(found)
          : null;
    }
  }

  /** Ends it after the step that is running. */
  public void cancel() {
    cancelled = true;
    Generation answer = running;
    if (answer != null) {
      answer.cancel();
    }
  }

  private boolean extract(TokenSequence sequence) {
    StringBuilder written = new StringBuilder("{");
    for (NotesPlan.Entry field : plan.fields) {
      written.append(written.length() == 1 ? "" : ", ").append('"').append(field.name).append("\": \"");
      List<String> stop = Arrays.asList("\"", "\n");
      String said = answer(sequence, plan.extractInstruction, field.maxTokens, written.toString(), stop);
      if (said == null) {
        return false;
      }
      String value = WhiteSpace.trimmed(plain(said));
      written.append(value).append('"');
      found.put(field.name, value);
    }
    return true;
  }

  private boolean ask(TokenSequence sequence) {
    for (NotesPlan.Entry question : plan.questions) {
      String said = answer(sequence, question.text, question.maxTokens, "", NO_STOP);
      if (said == null) {
        return false;
      }
      found.put(question.name, WhiteSpace.trimmed(said));
    }
    return true;
  }

  private boolean rewrite(TokenSequence sequence) {
    String instruction = plan.rewrite.text;
    for (Map.Entry<String, String> entry : found.entrySet()) {
      instruction = instruction.replace("{" + entry.getKey() + "}", entry.getValue());
    }
    String said = answer(sequence, instruction, plan.rewrite.maxTokens, "", NO_STOP);
    if (said != null) {
      found.put(plan.rewrite.name, WhiteSpace.trimmed(said));
    }
    return said != null;
  }

  /** What is said behind the notes and an instruction; `begun` is how it begins. Null when cancelled. */
  private String answer(
      TokenSequence sequence, String instruction, int maxTokens, String begun, List<String> stop) {
    List<ChatMessage> messages =
        Arrays.asList(
            new ChatMessage("system", plan.system), new ChatMessage("user", notes + "\n\n" + instruction));
    int[] prompt = model.coder.encode(model.chatFormat.prompt(messages) + begun);
    GenerationOptions options =
        new GenerationOptions(SamplingOptions.greedy()).withMaxTokens(maxTokens).withStop(stop);
    Generation answer = model.generate(prompt, sequence, options);
    running = answer;
    if (cancelled) {
      answer.cancel();
    }
    Completion completion = answer.run(null);
    return completion.finishReason == FinishReason.CANCELLED ? null : completion.text;
  }

  /** Without what JSON would have to escape. */
  private static String plain(String text) {
    StringBuilder kept = new StringBuilder();
    for (int i = 0; i < text.length(); i++) {
      char character = text.charAt(i);
      if (character >= ' ' && character != '"' && character != '\\') {
        kept.append(character);
      }
    }
    return kept.toString();
  }
}
