package edgemodel.text;

/** A message of a chat. */
public final class ChatMessage {
  /** Such as user. */
  public final String role;

  public final String content;

  public ChatMessage(String role, String content) {
    this.role = role;
    this.content = content;
  }
}
