package edgemodel.decoding;

import edgemodel.device.ThermalGovernor;
import edgemodel.steps.StopSignal;
import edgemodel.steps.TokenSequence;
import edgemodel.text.TokenCoder;

/**
 * An answer: run it here, or start it on a thread of its own. Once.
 *
 * <pre>
 *   Generation answer = model.chat(messages, sequence, options);
 *   answer.start(listener);      // or: Completion all = answer.run(null);
 *   answer.cancel();             // from any thread
 * </pre>
 */
public final class Generation {
  private final Answer answer;
  private final TokenSequence sequence;
  private final ThermalGovernor governor;
  private final StopSignal signal =
      new StopSignal() {
        @Override
        public boolean stops() {
          return cancelled || Thread.currentThread().isInterrupted();
        }
      };
  private volatile boolean cancelled;
  private Thread thread;
  private boolean used;

  /**
   * @param prompt token ids, at least one; what the sequence already holds of it is not run again.
   * @param sequence used by nobody else until the answer has ended.
   * @param coder turns tokens into text.
   * @param endTokens any of these ends the answer.
   * @param governor slows down or waits when the device is hot; null never does.
   * @throws edgemodel.EdgeModelException kind OPTION: the prompt is empty, or so is a stop string.
   */
  public Generation(
      int[] prompt,
      TokenSequence sequence,
      TokenCoder coder,
      int[] endTokens,
      GenerationOptions options,
      ThermalGovernor governor) {
    answer = new Answer(prompt, coder, endTokens, options);
    this.sequence = sequence;
    this.governor = governor;
  }

  /**
   * Writes the answer on this thread. Interrupting the thread cancels it, too.
   *
   * @param listener gets text; null for none. Its `onEnd` and `onError` are not called.
   * @throws edgemodel.EdgeModelException kind CAPACITY: the prompt does not fit; DEVICE: the runtime failed.
   */
  public Completion run(AnswerListener listener) {
    synchronized (this) {
      if (used) {
        throw new IllegalStateException("an answer runs once; ask again");
      }
      used = true;
    }
    return answer.run(sequence, governor, signal, listener);
  }

  /** Writes the answer on a thread of its own; the listener is called there. */
  public synchronized void start(final AnswerListener listener) {
    Thread started =
        new Thread("edgemodel-answer") {
          @Override
          public void run() {
            Completion completion;
            try {
              completion = Generation.this.run(listener);
            } catch (RuntimeException error) {
              listener.onError(error);
              return;
            }
            listener.onEnd(completion);
          }
        };
    started.start();
    thread = started;
  }

  /** Ends it after the step that is running; what has come stays. Returns at once. */
  public void cancel() {
    cancelled = true;
  }

  /**
   * Waits until a started answer has ended and its listener knows: then its sequence may be used again.
   *
   * @throws InterruptedException while waiting.
   */
  public void join() throws InterruptedException {
    Thread started;
    synchronized (this) {
      started = thread;
    }
    if (started != null) {
      started.join();
    }
  }
}
