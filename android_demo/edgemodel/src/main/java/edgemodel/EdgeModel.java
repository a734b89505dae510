package edgemodel;

import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.TokenizerRecord;
import edgemodel.bundle.Variant;
import edgemodel.decoding.Generation;
import edgemodel.decoding.GenerationOptions;
import edgemodel.decoding.SamplingOptions;
import edgemodel.device.ThermalGovernor;
import edgemodel.steps.StepModel;
import edgemodel.steps.StepRunner;
import edgemodel.steps.TokenSequence;
import edgemodel.text.ChatFormat;
import edgemodel.text.ChatMessage;
import edgemodel.text.TokenCoder;
import java.util.List;

/**
 * A bundle that is loaded and can answer.
 *
 * <pre>
 *   EdgeModel model = OnnxModels.load(folder, 2);
 *   TokenSequence chat = model.newSequence();
 *   model.chat(messages, chat, model.options()).start(listener);
 * </pre>
 */
public final class EdgeModel implements AutoCloseable {
  public final EdgeBundle bundle;
  public final Variant variant;
  public final TokenCoder coder;

  /** Null when the bundle has no chat_format.json. */
  public final ChatFormat chatFormat;

  public final Receipt receipt;
  private final StepRunner runner;
  private ThermalGovernor governor;

  /**
   * Brings the parts together.
   *
   * @param model runs what `variant` describes; handed over, and closed when this fails.
   * @param coder null for the bundle's own tokenizer.
   * @param runtime for the receipt.
   * @param began `System.nanoTime()` when loading began.
   * @throws EdgeModelException the tokenizer or the chat format cannot be read.
   */
  public EdgeModel(
      EdgeBundle bundle, Variant variant, StepModel model, TokenCoder coder, String runtime, long began) {
    boolean ready = false;
    try {
      this.bundle = bundle;
      this.variant = variant;
      this.coder = coder == null ? bundle.tokenCoder() : coder;
      chatFormat = bundle.chatFormat();
      runner = new StepRunner(model, variant.context);
      double loadMs = (System.nanoTime() - began) / 1e6;
      receipt =
          new Receipt(bundle.manifest.name, variant.name, variant.recipe, runtime, variant.context, loadMs);
      ready = true;
    } finally {
      if (!ready) {
        model.close();
      }
    }
  }

  /** Slows answers down on a hot device; null, as at first, never does. */
  public void setGovernor(ThermalGovernor governor) {
    this.governor = governor;
  }

  /** An empty conversation. Each that is kept costs the memory of what it holds; close it. */
  public TokenSequence newSequence() {
    return runner.newSequence();
  }

  /** What the checkpoint recommends, with drafts where they pay. */
  public GenerationOptions options() {
    return new GenerationOptions(SamplingOptions.recommended(bundle.manifest.generation));
  }

  /** The prompt's token ids, with a BOS token where the manifest says so. */
  public int[] encode(String text) {
    TokenizerRecord record = bundle.manifest.tokenizer;
    int[] ids = coder.encode(text);
    if (!record.addBos || record.bosId == null) {
      return ids;
    }
    int[] all = new int[ids.length + 1];
    all[0] = record.bosId.intValue();
    System.arraycopy(ids, 0, all, 1, ids.length);
    return all;
  }

  /** Continues a text. */
  public Generation complete(String text, TokenSequence sequence, GenerationOptions options) {
    return generate(encode(text), sequence, options);
  }

  /**
   * Answers a conversation. Hand over all of it each time: what `sequence` still knows is not run again.
   *
   * @throws EdgeModelException kind OPTION: the bundle has no chat format, or none for these roles.
   */
  public Generation chat(List<ChatMessage> messages, TokenSequence sequence, GenerationOptions options) {
    if (chatFormat == null) {
      throw EdgeModelException.option(
          "the bundle has no chat_format.json; run ios_notes/prepare_bundle.py on it");
    }
    return generate(coder.encode(chatFormat.prompt(messages)), sequence, options);
  }

  /** Continues token ids. */
  public Generation generate(int[] prompt, TokenSequence sequence, GenerationOptions options) {
    return new Generation(
        prompt, sequence, coder, bundle.manifest.tokenizer.eosIds, options, governor);
  }

  /** Gives memory back: call it under memory pressure. */
  public void shrink() {
    runner.shrink();
  }

  /** Bytes of keys and values as they are laid out now. */
  public long cellBytes() {
    return runner.cellBytes();
  }

  /** Releases the model, once the step that runs is over; answers under way end with an error. */
  @Override
  public void close() {
    runner.close();
  }
}
