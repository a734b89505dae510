package edgemodel.notes;

import edgemodel.EdgeModelException;
import edgemodel.bundle.JsonFields;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** The stages of a pipeline over notes: examples/phone_notes.json, which Python and Swift read as well. */
public final class NotesPlan {
  private static final int VERSION = 1;
  private static final int MOST_ENTRIES = 64;

  public final String system;
  public final String extractInstruction;
  public final List<Entry> fields;
  public final List<Entry> questions;
  public final Entry rewrite;

  /** Something that is asked for. */
  public static final class Entry {
    public final String name;

    /** Empty for a field, whose name says it. */
    public final String text;

    public final int maxTokens;

    Entry(String name, String text, int maxTokens) {
      if (maxTokens < 1) {
        throw EdgeModelException.option(name + " has max_tokens " + maxTokens + ", expected 1 or more");
      }
      this.name = name;
      this.text = text;
      this.maxTokens = maxTokens;
    }
  }

  private NotesPlan(JsonFields from) {
    from.expectKeys(new String[] {"schema_version", "system", "extract", "ask", "rewrite"});
    if (from.integer("schema_version") != VERSION) {
      throw EdgeModelException.option("the plan is of another version, expected " + VERSION);
    }
    system = from.string("system");
    JsonFields extract = from.object("extract");
    extractInstruction = extract.string("instruction");
    fields = entries(extract.objects("fields"), null);
    questions = entries(from.object("ask").objects("questions"), "question");
    JsonFields last = from.object("rewrite");
    rewrite = new Entry("reply", last.string("instruction"), last.integer("max_tokens"));
  }

  private static List<Entry> entries(List<JsonFields> objects, String key) {
    if (objects.size() > MOST_ENTRIES) {
      throw EdgeModelException.option("the plan asks for more than " + MOST_ENTRIES + " things at once");
    }
    List<Entry> found = new ArrayList<Entry>();
    for (JsonFields object : objects) {
      String text = key == null ? "" : object.string(key);
      found.add(new Entry(object.string("name"), text, object.integer("max_tokens")));
    }
    return Collections.unmodifiableList(found);
  }

  /**
   * Reads a plan.
   *
   * @throws EdgeModelException kind BUNDLE or OPTION: it is no plan of this version.
   */
  public static NotesPlan parse(byte[] utf8) {
    return new NotesPlan(JsonFields.parse(utf8, "the plan"));
  }
}
