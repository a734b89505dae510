package edgemodel.bundle;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import com.eclipsesource.json.ParseException;
import edgemodel.EdgeModelException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * One object of an untrusted JSON document, read by name and type; errors name the path.
 *
 * <p>The parser bounds how deep a document nests; whoever reads the file bounds how long it is.
 */
public final class JsonFields {
  private final JsonObject object;
  private final String path;

  private JsonFields(JsonObject object, String path) {
    this.object = object;
    this.path = path;
  }

  /**
   * Parses a document that is an object.
   *
   * @param utf8 the document.
   * @param name of the file, for messages.
   * @throws EdgeModelException kind BUNDLE: it is not JSON in UTF-8, or no object.
   */
  public static JsonFields parse(byte[] utf8, String name) {
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(utf8)).toString();
      JsonValue value = Json.parse(text);
      if (value.isObject()) {
        return new JsonFields(value.asObject(), name);
      }
    } catch (ParseException | CharacterCodingException error) {
      throw new EdgeModelException(
          EdgeModelException.Kind.BUNDLE,
          name + " is not JSON (" + error.getMessage() + "); copy or convert the bundle again",
          error);
    }
    throw EdgeModelException.bundle(name + " is not a JSON object; copy or convert the bundle again");
  }

  /** Where it stands, for messages. */
  public String path() {
    return path;
  }

  /** Its keys, in their order. */
  public List<String> names() {
    return object.names();
  }

  /**
   * Refuses keys that stand twice, or in none of the lists: a newer bundle may say something that changes
   * what the numbers mean.
   */
  public void expectKeys(String[]... known) {
    Set<String> all = new HashSet<String>();
    for (String[] names : known) {
      Collections.addAll(all, names);
    }
    Set<String> seen = new HashSet<String>();
    for (String name : object.names()) {
      if (!all.contains(name)) {
        throw EdgeModelException.bundle(
            path + " has the unknown key " + name + "; update the app, or convert with its edgesdk");
      }
      if (!seen.add(name)) {
        throw EdgeModelException.bundle(path + " has the key " + name + " twice; convert the bundle again");
      }
    }
  }

  /** Whether the key is there and not null. */
  public boolean has(String name) {
    JsonValue value = object.get(name);
    return value != null && !value.isNull();
  }

  public String string(String name) {
    JsonValue value = need(name);
    if (!value.isString()) {
      throw wrong(name, "a text");
    }
    return value.asString();
  }

  /** Null where it is absent or null. */
  public String optionalString(String name) {
    return has(name) ? string(name) : null;
  }

  public boolean bool(String name) {
    JsonValue value = need(name);
    if (!value.isBoolean()) {
      throw wrong(name, "true or false");
    }
    return value.isTrue();
  }

  public int integer(String name) {
    JsonValue value = need(name);
    return integer(value, name);
  }

  /** Null where it is absent or null. */
  public Integer optionalInteger(String name) {
    return has(name) ? Integer.valueOf(integer(name)) : null;
  }

  public long longInteger(String name) {
    JsonValue value = need(name);
    try {
      if (value.isNumber()) {
        return value.asLong();
      }
    } catch (NumberFormatException error) {
      throw wrong(name, "an integer");
    }
    throw wrong(name, "an integer");
  }

  /** Null where it is absent or null. */
  public Float optionalFloat(String name) {
    if (!has(name)) {
      return null;
    }
    JsonValue value = object.get(name);
    if (!value.isNumber()) {
      throw wrong(name, "a number");
    }
    return Float.valueOf(value.asFloat());
  }

  public JsonFields object(String name) {
    JsonValue value = need(name);
    if (!value.isObject()) {
      throw wrong(name, "an object");
    }
    return new JsonFields(value.asObject(), path + "." + name);
  }

  /** Null where it is absent or null. */
  public JsonFields optionalObject(String name) {
    return has(name) ? object(name) : null;
  }

  public List<JsonFields> objects(String name) {
    List<JsonFields> found = new ArrayList<JsonFields>();
    for (JsonValue value : array(name)) {
      String place = path + "." + name + "[" + found.size() + "]";
      if (!value.isObject()) {
        throw EdgeModelException.bundle(place + " is not an object; convert the bundle again");
      }
      found.add(new JsonFields(value.asObject(), place));
    }
    return found;
  }

  public int[] integers(String name) {
    List<JsonValue> values = array(name);
    int[] found = new int[values.size()];
    for (int i = 0; i < found.length; i++) {
      found[i] = integer(values.get(i), name);
    }
    return found;
  }

  /** The elements of an array, whatever they are. */
  public List<JsonValue> array(String name) {
    JsonValue value = need(name);
    if (!value.isArray()) {
      throw wrong(name, "a list");
    }
    return value.asArray().values();
  }

  /** The value itself; null where it is absent. */
  public JsonValue value(String name) {
    return object.get(name);
  }

  private int integer(JsonValue value, String name) {
    try {
      if (value.isNumber()) {
        return value.asInt();
      }
    } catch (NumberFormatException error) {
      throw wrong(name, "an integer");
    }
    throw wrong(name, "an integer");
  }

  private JsonValue need(String name) {
    JsonValue value = object.get(name);
    if (value == null) {
      throw EdgeModelException.bundle(path + "." + name + " is missing; convert the bundle again");
    }
    return value;
  }

  private EdgeModelException wrong(String name, String expected) {
    return EdgeModelException.bundle(path + "." + name + " is not " + expected + "; convert the bundle again");
  }
}
