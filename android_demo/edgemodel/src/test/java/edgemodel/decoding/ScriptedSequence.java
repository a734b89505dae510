package edgemodel.decoding;

import edgemodel.steps.StopSignal;
import edgemodel.steps.TokenSequence;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/** Says a chosen text, whatever it is told; remembers what it was told. */
final class ScriptedSequence implements TokenSequence {
  final List<List<Integer>> ran = new ArrayList<>();
  Runnable onStep = () -> {};

  private final int context;
  private final int prompt;
  private final int[] script;
  private final int[] held;
  private int length;
  private int judged;

  ScriptedSequence(int context, int prompt, int... script) {
    this.context = context;
    this.prompt = prompt;
    this.script = script;
    held = new int[context];
  }

  @Override
  public int context() {
    return context;
  }

  @Override
  public int length() {
    return length;
  }

  @Override
  public int token(int place) {
    return held[place];
  }

  @Override
  public int mostDrafted() {
    return 7;
  }

  @Override
  public float[] extend(int[] tokens, StopSignal between) {
    if (between.stops()) {
      return null;
    }
    hold(tokens, tokens.length);
    return logits(length);
  }

  @Override
  public void judge(int[] tokens, int count, Judge judge) {
    judged = length;
    int kept = judge.kept(this);
    hold(tokens, kept);
  }

  @Override
  public float[] judged(int place) {
    return logits(judged + place + 1);
  }

  private void hold(int[] tokens, int count) {
    onStep.run();
    if (context < 1000) {
      ran.add(IntStream.range(0, count).mapToObj(i -> tokens[i]).toList());
    }
    System.arraycopy(tokens, 0, held, length, count);
    length += count;
  }

  private float[] logits(int after) {
    float[] logits = new float[30];
    logits[script[after - prompt]] = 50;
    return logits;
  }

  @Override
  public void truncate(int to) {
    length = Math.min(length, to);
  }

  @Override
  public void close() {}
}
