package edgemodel.text;

import edgemodel.EdgeModelException;
import edgemodel.bundle.JsonFields;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes a chat as the model was trained on it, without a template engine.
 *
 * <p>Chat templates are Jinja programs. Most come down to fixed text between one message and the next, which
 * depends on the two roles only. ios_notes/prepare_bundle.py finds these texts by running the bundle's own
 * template, checks them against it on other conversations, and writes chat_format.json; a template that is
 * more than that (tools, dates, thinking) is refused there, by name.
 */
public final class ChatFormat {
  private static final int VERSION = 1;
  private static final int MOST_ROLES = 64;

  private final boolean trims;

  /** From role (empty at the start) to role (empty for the answer to come): the text in between. */
  private final Map<String, Map<String, String>> joins = new HashMap<String, Map<String, String>>();

  private ChatFormat(JsonFields from) {
    from.expectKeys(new String[] {"schema_version", "trims", "joins"});
    if (from.integer("schema_version") != VERSION) {
      throw EdgeModelException.bundle("of another version");
    }
    trims = from.bool("trims");
    JsonFields all = from.object("joins");
    expectFew(all);
    for (String role : all.names()) {
      JsonFields next = all.object(role);
      expectFew(next);
      Map<String, String> texts = new HashMap<String, String>();
      for (String other : next.names()) {
        texts.put(other, next.string(other));
      }
      joins.put(role, texts);
    }
  }

  /** Templates know a handful of roles; a name is looked up among all. */
  private static void expectFew(JsonFields roles) {
    if (roles.names().size() > MOST_ROLES) {
      throw EdgeModelException.bundle(roles.path() + " has more than " + MOST_ROLES + " roles");
    }
  }

  /**
   * Reads a chat_format.json.
   *
   * @throws EdgeModelException kind BUNDLE: it is damaged or of another version.
   */
  public static ChatFormat parse(byte[] utf8) {
    try {
      return new ChatFormat(JsonFields.parse(utf8, "chat_format.json"));
    } catch (EdgeModelException error) {
      throw EdgeModelException.bundle(
          "chat_format.json is damaged or of another version (" + error.getMessage()
              + "); run prepare_bundle.py again");
    }
  }

  /**
   * The prompt of a conversation, ending where the answer begins. Encode it without a BOS token: a template
   * that wants one writes it.
   *
   * @throws EdgeModelException kind OPTION: the template gives no text for roles in this order.
   */
  public String prompt(List<ChatMessage> messages) {
    StringBuilder text = new StringBuilder();
    String last = "";
    for (ChatMessage message : messages) {
      text.append(join(last, message.role)).append(trims ? WhiteSpace.trimmed(message.content) : message.content);
      last = message.role;
    }
    return text.append(join(last, "")).toString();
  }

  private String join(String from, String to) {
    Map<String, String> texts = joins.get(from);
    String text = texts == null ? null : texts.get(to);
    if (text == null) {
      throw EdgeModelException.option(
          "the chat template has no text between " + (from.isEmpty() ? "the start" : from) + " and "
              + (to.isEmpty() ? "an answer" : to) + "; change the order of the messages");
    }
    return text;
  }
}
