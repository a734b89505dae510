package edgemodel.decoding;

import edgemodel.EdgeModelException;
import edgemodel.device.ThermalGovernor;
import edgemodel.steps.StopSignal;
import edgemodel.steps.TokenSequence;
import edgemodel.text.Detokenizer;
import edgemodel.text.StopStrings;
import edgemodel.text.TokenCoder;
import java.util.Arrays;

/**
 * One answer: prompt, then a step at a time, each token chosen, checked and turned into text.
 *
 * <p>Drafts are judged by the answer's own choices (docs/decisions/0020), so penalties, stop strings and
 * random numbers are those of an answer without drafts.
 */
final class Answer implements TokenSequence.Judge {
  private final int[] prompt;
  private final int[] endTokens;
  private final GenerationOptions options;
  private final Sampler sampler;
  private final Detokenizer detokenizer;
  private final StopStrings stops;
  private final StringBuilder text = new StringBuilder();
  private final Completion.Figures figures = new Completion.Figures();
  private final LookupDrafts drafts;
  private int[] tokens = new int[64];
  private int count;
  private int limit;
  private AnswerListener listener;

  /** The token that is run next, then what is drafted to follow it. */
  private int[] step = new int[1];

  private int drafted;
  private FinishReason finish;

  Answer(int[] prompt, TokenCoder coder, int[] endTokens, GenerationOptions options) {
    if (prompt.length == 0) {
      throw EdgeModelException.option("the prompt is empty, expected at least one token");
    }
    this.prompt = prompt;
    this.endTokens = endTokens;
    this.options = options;
    sampler = new Sampler(options.sampling);
    detokenizer = new Detokenizer(coder, options.skipSpecial);
    stops = new StopStrings(options.stop);
    drafts = options.drafts ? new LookupDrafts() : null;
  }

  Completion run(TokenSequence sequence, ThermalGovernor governor, StopSignal signal, AnswerListener listener) {
    this.listener = listener;
    if (prompt.length > sequence.context()) {
      throw EdgeModelException.capacity(
          "the prompt has " + prompt.length + " tokens, the context holds " + sequence.context()
              + "; shorten it");
    }
    int room = sequence.context() - prompt.length + 1;
    limit = options.maxTokens == 0 ? room : Math.min(options.maxTokens, room);
    long began = System.nanoTime();
    float[] logits = sequence.extend(reuse(sequence), signal);
    if (logits == null) {
      finish = FinishReason.CANCELLED;
    } else {
      for (int token : prompt) {
        sampler.observe(token);
        learn(token);
      }
      push(sampler.choose(logits));
    }
    figures.firstNs = System.nanoTime() - began;
    step = new int[1 + (drafts == null ? 0 : sequence.mostDrafted())];
    while (finish == null) {
      if (signal.stops() || governor != null && !governor.rest(signal)) {
        finish = FinishReason.CANCELLED;
        break;
      }
      began = System.nanoTime();
      next(sequence, signal);
      figures.laterNs += System.nanoTime() - began;
    }
    // Nothing is added after a stop string: both are empty then.
    show(stops.push(detokenizer.finish()) + stops.finish());
    FinishReason reason = stops.found() == null ? finish : FinishReason.STOP_STRING;
    return new Completion(text.toString(), Arrays.copyOf(tokens, count), reason, prompt.length, figures);
  }

  /** Keeps what the sequence and the prompt have in common; returns what is still to run, at least a token. */
  private int[] reuse(TokenSequence sequence) {
    int common = 0;
    int most = Math.min(sequence.length(), prompt.length - 1); // logits after the last token are not kept
    while (common < most && sequence.token(common) == prompt[common]) {
      common++;
    }
    sequence.truncate(common);
    figures.reused = common;
    return Arrays.copyOfRange(prompt, common, prompt.length);
  }

  private void next(TokenSequence sequence, StopSignal signal) {
    step[0] = tokens[count - 1];
    // A drafted token is worth its row only where the answer may still take one after it.
    int most = Math.min(step.length - 1, limit - count - 1);
    drafted = drafts == null ? 0 : drafts.guess(step, 1, most);
    figures.steps++;
    figures.drafted += drafted;
    sequence.judge(step, 1 + drafted, this);
  }

  @Override
  public int kept(TokenSequence rows) {
    int at = 0;
    while (true) {
      int token = sampler.choose(rows.judged(at));
      push(token);
      if (finish != null || at == drafted || step[at + 1] != token) {
        break;
      }
      at++;
    }
    figures.accepted += at;
    if (drafts != null) {
      drafts.judged(drafted, at);
    }
    return at + 1;
  }

  private void push(int token) {
    if (count == tokens.length) {
      tokens = Arrays.copyOf(tokens, 2 * count);
    }
    tokens[count++] = token;
    learn(token);
    for (int end : endTokens) {
      if (token == end) {
        finish = FinishReason.STOP;
        return;
      }
    }
    show(stops.push(detokenizer.push(token)));
    if (stops.found() != null) {
      finish = FinishReason.STOP_STRING;
    } else if (count >= limit) {
      finish = FinishReason.LENGTH;
    }
  }

  private void learn(int token) {
    if (drafts != null) {
      drafts.add(token);
    }
  }

  private void show(String piece) {
    if (!piece.isEmpty()) {
      text.append(piece);
      if (listener != null) {
        listener.onText(piece);
      }
    }
  }
}
