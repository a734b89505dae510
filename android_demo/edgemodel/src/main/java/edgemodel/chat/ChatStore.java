package edgemodel.chat;

import com.eclipsesource.json.JsonArray;
import com.eclipsesource.json.JsonObject;
import edgemodel.EdgeModelException;
import edgemodel.bundle.JsonFields;
import edgemodel.text.ChatMessage;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Keeps a conversation in a file, so that a process may end at any moment: it is written beside the file and
 * renamed, and a message is kept once it is whole.
 */
public final class ChatStore {
  private static final int LIMIT_BYTES = 8 << 20;

  private final File file;

  public ChatStore(File file) {
    this.file = file;
  }

  /** The messages; none where there is no file, or one that cannot be read. */
  public List<ChatMessage> load() {
    List<ChatMessage> messages = new ArrayList<ChatMessage>();
    if (!file.isFile() || file.length() > LIMIT_BYTES) {
      return messages;
    }
    byte[] data = new byte[(int) file.length()];
    try (DataInputStream stream = new DataInputStream(new FileInputStream(file))) {
      stream.readFully(data);
      for (JsonFields message : JsonFields.parse(data, "chat").objects("messages")) {
        messages.add(new ChatMessage(message.string("role"), message.string("content")));
      }
    } catch (IOException | EdgeModelException error) {
      messages.clear(); // an app that cannot read it must still start
    }
    return messages;
  }

  /**
   * Replaces what is kept.
   *
   * @throws EdgeModelException kind CAPACITY: it cannot be written; what was kept stays.
   */
  public void save(List<ChatMessage> messages) {
    JsonArray all = new JsonArray();
    for (ChatMessage message : messages) {
      all.add(new JsonObject().add("role", message.role).add("content", message.content));
    }
    byte[] data = new JsonObject().add("messages", all).toString().getBytes(StandardCharsets.UTF_8);
    File next = new File(file.getPath() + ".next");
    try (FileOutputStream out = new FileOutputStream(next)) {
      out.write(data);
      out.getFD().sync();
    } catch (IOException error) {
      throw unwritten(error.getMessage());
    }
    if (!next.renameTo(file)) {
      throw unwritten("it cannot be renamed");
    }
  }

  private EdgeModelException unwritten(String why) {
    return EdgeModelException.capacity("the chat cannot be kept: " + why + "; free some room");
  }
}
