package edgemodel;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonArray;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.function.Executable;

/** Files that ios_notes/make_test_vectors.py makes, of which the Swift package reads the same. */
public final class Vectors {
  private Vectors() {}

  public static Path folder() {
    return Path.of(System.getProperty("vectors"));
  }

  public static byte[] bytes(String name) {
    try {
      return Files.readAllBytes(folder().resolve(name));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  public static JsonValue load(String name) {
    return Json.parse(new String(bytes(name), StandardCharsets.UTF_8));
  }

  public static int[] integers(JsonValue list) {
    return list.asArray().values().stream().mapToInt(JsonValue::asInt).toArray();
  }

  public static String[] texts(JsonValue list) {
    return list.asArray().values().stream().map(JsonValue::asString).toArray(String[]::new);
  }

  public static Iterable<JsonObject> objects(JsonValue list) {
    return list.asArray().values().stream().map(JsonValue::asObject).toList();
  }

  /** The object or element at a path, such as `variants`, `0`, `steps`. */
  public static JsonValue at(JsonValue value, String... path) {
    for (String part : path) {
      value = value.isArray() ? ((JsonArray) value).get(Integer.parseInt(part)) : value.asObject().get(part);
    }
    return value;
  }

  public static void refused(String needle, Executable body) {
    EdgeModelException error = Assertions.assertThrows(EdgeModelException.class, body);
    Assertions.assertTrue(error.getMessage().contains(needle), error.getMessage());
  }
}
