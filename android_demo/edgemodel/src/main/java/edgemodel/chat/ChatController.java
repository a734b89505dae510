package edgemodel.chat;

import edgemodel.EdgeModel;
import edgemodel.bundle.BundleDownload;
import edgemodel.bundle.BundleImport;
import edgemodel.bundle.EdgeBundle;
import edgemodel.decoding.AnswerListener;
import edgemodel.decoding.Completion;
import edgemodel.decoding.FinishReason;
import edgemodel.decoding.Generation;
import edgemodel.steps.TokenSequence;
import edgemodel.text.ChatMessage;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * One conversation with one model: imports, loads, sends, streams, stops. It is called on one thread, the
 * screen's, and shows on it; what takes long runs elsewhere. It knows no Android.
 */
public final class ChatController {
  /** Opens a bundle with a runtime. */
  public interface Loader {
    /**
     * @throws edgemodel.EdgeModelException it cannot be run.
     */
    EdgeModel load(EdgeBundle bundle);
  }

  /** Shows a state; called on the screen's thread. */
  public interface View {
    void show(ChatState state);
  }

  private final File shelf;
  private final ChatStore store;
  private final Loader loader;
  private final Executor screen;
  private final View view;
  private final ExecutorService work = Executors.newSingleThreadExecutor();
  private final List<ChatMessage> messages;

  private String unsent;
  private ChatState.Phase phase = ChatState.Phase.EMPTY;
  private String status = "";
  private StringBuilder answer = new StringBuilder();
  private EdgeModel model;
  private TokenSequence sequence;
  private Generation generation;
  private ModelImport importing;
  private boolean over;

  /**
   * @param shelf folder of bundles.
   * @param store keeps the conversation.
   * @param screen runs what is to happen on the screen's thread, in order.
   */
  public ChatController(File shelf, ChatStore store, Loader loader, Executor screen, View view) {
    this.shelf = shelf;
    this.store = store;
    this.loader = loader;
    this.screen = screen;
    this.view = view;
    messages = store.load();
    int last = messages.size() - 1;
    // A process that ended before the answer did: the question is there to be sent again.
    unsent = last >= 0 && messages.get(last).role.equals("user") ? messages.remove(last).content : "";
  }

  /** Loads the first bundle of the shelf, if there is one; also after `release`. */
  public void start() {
    if (model != null || phase == ChatState.Phase.LOADING || phase == ChatState.Phase.IMPORTING) {
      show();
      return;
    }
    to(ChatState.Phase.LOADING, "loading");
    work.execute(
        new Runnable() {
          @Override
          public void run() {
            BundleImport.recover(shelf);
            File[] bundles = BundleImport.bundles(shelf);
            if (bundles.length == 0) {
              post(ChatState.Phase.EMPTY, "no model yet: import a bundle as a zip");
            } else {
              load(bundles[0]);
            }
          }
        });
  }

  /**
   * Imports a bundle and loads it.
   *
   * @param zip closed when it has been read.
   * @param limitBytes most that it may unpack to.
   */
  public void importBundle(InputStream zip, long limitBytes) {
    begin(ModelImport.ofZip(zip, limitBytes));
  }

  /**
   * Imports a bundle from a server and loads it; see BundleDownload.
   *
   * @param address of a zip or a folder, as it was typed.
   * @param limitBytes most that may be written.
   */
  public void importFrom(String address, long limitBytes) {
    begin(ModelImport.ofAddress(address, limitBytes));
  }

  /** The address from which an import can go on; empty for none. */
  public String unfinishedImport() {
    String kept = BundleDownload.kept(shelf);
    return kept == null ? "" : kept;
  }

  private void begin(final ModelImport next) {
    stop();
    importing = next;
    next.tell(
        new ModelImport.Listener() {
          @Override
          public void onLine(String line) {
            post(ChatState.Phase.IMPORTING, line);
          }
        });
    to(ChatState.Phase.IMPORTING, "importing");
    work.execute(
        new Runnable() {
          @Override
          public void run() {
            importNow(next);
          }
        });
  }

  private void importNow(ModelImport next) {
    try {
      File folder = next.run(shelf);
      if (folder == null) {
        fail(next, "the import was stopped" + (next.keeps(shelf) ? "; what has come is kept" : ""));
      } else {
        post(ChatState.Phase.LOADING, "loading");
        screen.execute(
            new Runnable() {
              @Override
              public void run() {
                forget();
              }
            });
        load(folder);
      }
    } catch (IOException | RuntimeException error) {
      fail(next, String.valueOf(error.getMessage()));
    }
  }

  private void load(File folder) {
    final EdgeModel loaded;
    try {
      loaded = loader.load(new EdgeBundle(folder));
    } catch (RuntimeException | LinkageError error) {
      fail(String.valueOf(error.getMessage()));
      return;
    }
    screen.execute(
        new Runnable() {
          @Override
          public void run() {
            if (over) {
              loaded.close();
              return;
            }
            forget();
            model = loaded;
            sequence = loaded.newSequence();
            to(ChatState.Phase.READY, loaded.receipt.toString());
          }
        });
  }

  /** Sends a message; the answer grows until it joins the messages. */
  public void send(String text) {
    if (phase != ChatState.Phase.READY || text.trim().isEmpty()) {
      return;
    }
    messages.add(new ChatMessage("user", text.trim()));
    unsent = "";
    answer = new StringBuilder();
    try {
      store.save(messages);
      generation = model.chat(new ArrayList<ChatMessage>(messages), sequence, model.options());
    } catch (RuntimeException error) {
      unsent = messages.remove(messages.size() - 1).content;
      to(ChatState.Phase.READY, String.valueOf(error.getMessage()));
      return;
    }
    to(ChatState.Phase.ANSWERING, status);
    generation.start(new Streamed(generation));
  }

  /** Shows an answer as it comes. */
  private final class Streamed implements AnswerListener {
    private final Generation mine;

    Streamed(Generation mine) {
      this.mine = mine;
    }

    @Override
    public void onText(final String piece) {
      screen.execute(
          new Runnable() {
            @Override
            public void run() {
              if (generation == mine) {
                answer.append(piece);
                show();
              }
            }
          });
    }

    @Override
    public void onEnd(final Completion completion) {
      end(figures(completion));
    }

    @Override
    public void onError(final RuntimeException error) {
      end(String.valueOf(error.getMessage()));
    }

    private void end(final String said) {
      screen.execute(
          new Runnable() {
            @Override
            public void run() {
              if (generation == mine) {
                ended(said);
              }
            }
          });
    }
  }

  private void ended(String said) {
    generation = null;
    if (answer.length() > 0) {
      messages.add(new ChatMessage("assistant", answer.toString()));
    } else {
      // A question without an answer can be sent again; the next message takes its place.
      unsent = messages.remove(messages.size() - 1).content;
    }
    answer = new StringBuilder();
    String shown = said;
    try {
      store.save(messages);
    } catch (RuntimeException error) {
      shown = String.valueOf(error.getMessage());
    }
    // An import that has begun meanwhile goes on.
    to(phase == ChatState.Phase.ANSWERING ? ChatState.Phase.READY : phase, shown);
  }

  private static String figures(Completion completion) {
    return String.format(
        Locale.ROOT,
        "%d tokens of prompt, %d reused; first token %.0f ms; %.1f tokens/s; %s",
        completion.promptTokens,
        completion.reusedTokens,
        completion.firstTokenMs,
        completion.decodeTokensPerS(),
        completion.finishReason == FinishReason.CANCELLED ? "stopped" : "ended");
  }

  /** Ends the answer or the import after what runs now; what has come of an answer stays. */
  public void stop() {
    if (importing != null) {
      importing.stop();
    }
    if (generation != null) {
      generation.cancel();
    }
  }

  /** Starts over with an empty conversation. */
  public void reset() {
    if (phase != ChatState.Phase.READY) {
      return;
    }
    messages.clear();
    store.save(messages);
    sequence.truncate(0);
    show();
  }

  /** Gives memory back that is not in use. */
  public void shrink() {
    if (model != null && generation == null) {
      model.shrink();
    }
  }

  /** Lets the model go, when memory runs out; `start` loads it again. */
  public void release() {
    boolean had = model != null;
    forget();
    if (had) {
      to(ChatState.Phase.EMPTY, "the system is short of memory, so the model was unloaded");
    }
  }

  /** Lets everything go; nothing is shown from now on. */
  public void close() {
    over = true;
    stop();
    forget();
    work.shutdown();
  }

  /** Closes the model; what has come of an answer under way stays. */
  private void forget() {
    if (generation != null) {
      generation.cancel();
      ended(status);
    }
    final EdgeModel old = model;
    model = null;
    sequence = null;
    if (old != null) {
      work.execute(
          new Runnable() {
            @Override
            public void run() {
              old.close(); // which waits for the step that runs
            }
          });
    }
  }

  private void post(final ChatState.Phase next, final String said) {
    screen.execute(
        new Runnable() {
          @Override
          public void run() {
            to(next, said);
          }
        });
  }

  /** Says why something failed; the model that was there is still there. */
  private void fail(String why) {
    fail(null, why);
  }

  /** The same, of an import unless another has begun, which is what the screen shows then. */
  private void fail(final ModelImport failed, final String why) {
    screen.execute(
        new Runnable() {
          @Override
          public void run() {
            if (failed != null && failed != importing) {
              return;
            }
            to(model == null ? ChatState.Phase.FAILED : ChatState.Phase.READY, why);
          }
        });
  }

  private void to(ChatState.Phase next, String said) {
    phase = next;
    status = said;
    show();
  }

  private void show() {
    if (!over) {
      view.show(new ChatState(phase, messages, answer.toString(), status, unsent));
    }
  }
}
