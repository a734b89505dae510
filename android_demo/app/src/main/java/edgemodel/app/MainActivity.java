package edgemodel.app;

import android.app.Activity;
import android.content.ComponentCallbacks2;
import android.content.Intent;
import android.graphics.Typeface;
import android.os.Bundle;
import android.os.Handler;
import android.os.Looper;
import android.text.SpannableStringBuilder;
import android.text.Spanned;
import android.text.style.StyleSpan;
import android.view.Menu;
import android.view.MenuItem;
import android.view.View;
import android.widget.Button;
import android.widget.EditText;
import android.widget.ProgressBar;
import android.widget.ScrollView;
import android.widget.TextView;
import edgemodel.EdgeModel;
import edgemodel.bundle.EdgeBundle;
import edgemodel.bundle.Variant;
import edgemodel.chat.ChatController;
import edgemodel.chat.ChatState;
import edgemodel.chat.ChatStore;
import edgemodel.device.MemoryLimit;
import edgemodel.device.ThermalGovernor;
import edgemodel.onnxruntime.OnnxModels;
import edgemodel.text.ChatMessage;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.Executor;

/**
 * A chat with plain views. In the background an answer stops: the system may freeze or end the process, and
 * what a phone computes unseen is heat.
 */
public final class MainActivity extends Activity implements ChatController.View, ChatController.Loader {
  private static final int PICK_MODEL = 1;

  /** Tokens that a conversation is expected to hold, for the memory that is asked for. */
  private static final int EXPECTED_TOKENS = 512;

  /** Of the storage that is free, what a bundle may take. */
  private static final double STORAGE_SHARE = 0.8;

  private final Handler handler = new Handler(Looper.getMainLooper());
  private DeviceState device;
  private ChatController chat;
  private ChatState state;
  private TextView transcript;
  private TextView line;
  private ScrollView scroll;
  private ProgressBar progress;
  private EditText message;
  private Button send;
  private Button stop;

  @Override
  protected void onCreate(Bundle saved) {
    super.onCreate(saved);
    setContentView(R.layout.main);
    transcript = findViewById(R.id.transcript);
    line = findViewById(R.id.state);
    scroll = findViewById(R.id.scroll);
    progress = findViewById(R.id.progress);
    message = findViewById(R.id.message);
    send = findViewById(R.id.send);
    stop = findViewById(R.id.stop);
    send.setOnClickListener(
        new View.OnClickListener() {
          @Override
          public void onClick(View view) {
            String text = message.getText().toString();
            message.setText("");
            chat.send(text);
          }
        });
    stop.setOnClickListener(
        new View.OnClickListener() {
          @Override
          public void onClick(View view) {
            chat.stop();
          }
        });
    device = new DeviceState(this);
    ChatStore store = new ChatStore(new File(getFilesDir(), "chat.json"));
    chat = new ChatController(shelf(), store, this, new MainThread(handler), this);
  }

  /** Runs on the thread of views, in order. */
  private static final class MainThread implements Executor {
    private final Handler handler;

    MainThread(Handler handler) {
      this.handler = handler;
    }

    @Override
    public void execute(Runnable command) {
      handler.post(command);
    }
  }

  private File shelf() {
    // Not among what is backed up: it is large, and can be had again.
    return new File(getNoBackupFilesDir(), "models");
  }

  @Override
  public EdgeModel load(EdgeBundle bundle) {
    Variant variant = bundle.variant(OnnxModels.FORMAT, null);
    MemoryLimit.expect(bundle, variant, EXPECTED_TOKENS, device.freeBytes());
    EdgeModel model = OnnxModels.load(bundle, variant.name, device.threads());
    model.setGovernor(new ThermalGovernor(device));
    return model;
  }

  @Override
  protected void onStart() {
    super.onStart();
    chat.start();
  }

  @Override
  protected void onStop() {
    if (state != null && state.phase == ChatState.Phase.ANSWERING) {
      chat.stop();
    }
    super.onStop();
  }

  @Override
  protected void onDestroy() {
    chat.close();
    handler.removeCallbacksAndMessages(null);
    super.onDestroy();
  }

  @Override
  public void onTrimMemory(int level) {
    super.onTrimMemory(level);
    if (level >= ComponentCallbacks2.TRIM_MEMORY_MODERATE
        || level == ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL) {
      chat.release(); // else the system ends the app next
    } else {
      chat.shrink();
    }
  }

  @Override
  public boolean onCreateOptionsMenu(Menu menu) {
    menu.add(Menu.NONE, R.string.import_model, Menu.NONE, R.string.import_model);
    if (AddressDialog.isAllowed(this)) {
      menu.add(Menu.NONE, R.string.import_address, Menu.NONE, R.string.import_address);
    }
    menu.add(Menu.NONE, R.string.new_chat, Menu.NONE, R.string.new_chat);
    return true;
  }

  @Override
  public boolean onOptionsItemSelected(MenuItem item) {
    if (item.getItemId() == R.string.import_model) {
      Intent pick = new Intent(Intent.ACTION_OPEN_DOCUMENT);
      pick.addCategory(Intent.CATEGORY_OPENABLE);
      pick.setType("application/zip");
      startActivityForResult(pick, PICK_MODEL);
      return true;
    }
    if (item.getItemId() == R.string.import_address) {
      AddressDialog.show(
          this,
          chat.unfinishedImport(),
          new AddressDialog.Listener() {
            @Override
            public void onAddress(String address) {
              chat.importFrom(address, freeStorageBytes());
            }
          });
      return true;
    }
    if (item.getItemId() == R.string.new_chat) {
      chat.reset();
      return true;
    }
    return super.onOptionsItemSelected(item);
  }

  @Override
  protected void onActivityResult(int request, int result, Intent data) {
    super.onActivityResult(request, result, data);
    if (request != PICK_MODEL || result != RESULT_OK || data == null || data.getData() == null) {
      return;
    }
    try {
      InputStream zip = getContentResolver().openInputStream(data.getData());
      if (zip != null) {
        chat.importBundle(zip, freeStorageBytes());
      }
    } catch (IOException | SecurityException error) {
      line.setText(String.valueOf(error.getMessage()));
    }
  }

  /** Bytes that an import may write. */
  private long freeStorageBytes() {
    return (long) (STORAGE_SHARE * getNoBackupFilesDir().getUsableSpace());
  }

  @Override
  public void show(ChatState next) {
    boolean fresh = state == null || state.phase != next.phase;
    String before = state == null ? "" : state.status;
    state = next;
    SpannableStringBuilder text = new SpannableStringBuilder();
    for (ChatMessage each : next.messages) {
      append(text, each.role.equals("user") ? R.string.you : R.string.model, each.content);
    }
    if (next.phase == ChatState.Phase.ANSWERING) {
      append(text, R.string.model, next.answer.isEmpty() ? getString(R.string.waiting) : next.answer);
    }
    boolean atEnd = !scroll.canScrollVertically(1);
    transcript.setText(text);
    if (atEnd || fresh) {
      scroll.post(
          new Runnable() {
            @Override
            public void run() {
              scroll.fullScroll(View.FOCUS_DOWN);
              message.requestFocus();
            }
          });
    }
    if (fresh || !next.status.equals(before)) { // not with every token: a screen reader would read it
      line.setText(next.status + "\n" + device.line());
      line.setContentDescription(getString(R.string.state) + ": " + line.getText());
    }
    boolean busy = next.phase == ChatState.Phase.LOADING || next.phase == ChatState.Phase.IMPORTING;
    progress.setVisibility(busy ? View.VISIBLE : View.GONE);
    stop.setVisibility(next.canStop() ? View.VISIBLE : View.GONE);
    send.setVisibility(next.canStop() ? View.GONE : View.VISIBLE);
    send.setEnabled(next.canSend());
    if (!next.unsent.isEmpty() && message.getText().length() == 0) {
      message.setText(next.unsent);
    }
  }

  private void append(SpannableStringBuilder text, int who, String content) {
    int start = text.length();
    text.append(getString(who));
    text.setSpan(new StyleSpan(Typeface.BOLD), start, text.length(), Spanned.SPAN_EXCLUSIVE_EXCLUSIVE);
    text.append("\n").append(content).append("\n\n");
  }
}
