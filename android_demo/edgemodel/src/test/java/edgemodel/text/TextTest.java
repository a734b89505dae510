package edgemodel.text;

import static edgemodel.Vectors.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.eclipsesource.json.Json;
import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.Vectors;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

final class TextTest {
  /** A token for every byte; 7 is special. */
  private static final TokenCoder BYTES =
      new TokenCoder() {
        @Override
        public int[] encode(String text) {
          throw new UnsupportedOperationException();
        }

        @Override
        public byte[] bytes(int token) {
          return new byte[] {(byte) token};
        }

        @Override
        public boolean isSpecial(int token) {
          return token == 7;
        }
      };

  @Test
  void tokenizersGiveTheIdsOfHuggingFace() {
    for (JsonObject tokenizer : Vectors.objects(Vectors.at(Vectors.load("text.json"), "tokenizers"))) {
      String file = tokenizer.get("file").asString();
      ByteLevelBpe coder = new ByteLevelBpe(Vectors.bytes(file));
      for (JsonObject example : Vectors.objects(tokenizer.get("cases"))) {
        String text = example.get("text").asString();
        int[] ids = Vectors.integers(example.get("ids"));
        assertArrayEquals(ids, coder.encode(text), file + ": " + text);
        assertEquals(example.get("decoded").asString(), Detokenizer.decode(coder, ids, false));
        assertEquals(example.get("plain").asString(), Detokenizer.decode(coder, ids, true));
        for (String piece : pieces(coder, ids)) {
          // No piece has half a character: none of these texts holds a replacement character.
          boolean whole = !example.get("plain").asString().contains("\uFFFD");
          assertFalse(whole && piece.contains("\uFFFD"), text);
        }
      }
    }
  }

  private static List<String> pieces(TokenCoder coder, int... tokens) {
    Detokenizer stream = new Detokenizer(coder, true);
    List<String> found = new ArrayList<>();
    for (int token : tokens) {
      found.add(stream.push(token));
    }
    found.add(stream.finish());
    return found;
  }

  @Test
  void bytesThatAreNoCharacterComeOut() {
    assertEquals(List.of("a", "", "", "é", ""), pieces(BYTES, 0x61, 7, 0xC3, 0xA9));
    assertEquals(List.of("", "", "", "🙂", ""), pieces(BYTES, 0xF0, 0x9F, 0x99, 0x82));
    assertEquals(List.of("\uFFFD", "a", ""), pieces(BYTES, 0xFF, 0x61));
    assertEquals(List.of("", "\uFFFDa", ""), pieces(BYTES, 0xE2, 0x61));
    assertEquals(List.of("", "\uFFFD\uFFFD", "a", ""), pieces(BYTES, 0xED, 0xA0, 0x61));
    assertEquals(List.of("", "\uFFFD"), pieces(BYTES, 0xC3));
    // However bytes are cut, the text is that of the whole, and that of Java where no surrogate is encoded.
    int[] values = {0x61, 0x80, 0xBF, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0x9F, 0xFF};
    Random random = new Random(3);
    for (int round = 0; round < 2000; round++) {
      int[] tokens = random.ints(12, 0, values.length).map(i -> values[i]).toArray();
      byte[] bytes = new byte[tokens.length];
      boolean surrogate = false;
      for (int i = 0; i < tokens.length; i++) {
        bytes[i] = (byte) tokens[i];
        surrogate |= i > 0 && tokens[i - 1] == 0xED && tokens[i] >= 0xA0 && tokens[i] < 0xC0;
      }
      String text = String.join("", pieces(BYTES, tokens));
      TokenCoder whole = new AllAtOnce(bytes);
      assertEquals(String.join("", pieces(whole, 0)), text);
      if (!surrogate) {
        assertEquals(new String(bytes, StandardCharsets.UTF_8), text);
      }
    }
    for (int point = 0; point < Character.MAX_CODE_POINT; point += 97) {
      String text = new String(Character.toChars(point));
      boolean surrogate = point >= Character.MIN_SURROGATE && point <= Character.MAX_SURROGATE;
      TokenCoder whole = new AllAtOnce(text.getBytes(StandardCharsets.UTF_8));
      assertEquals(surrogate ? "?" : text, String.join("", pieces(whole, 0)));
    }
  }

  /** One token for all of a text. */
  private record AllAtOnce(byte[] all) implements TokenCoder {
    @Override
    public int[] encode(String text) {
      throw new UnsupportedOperationException();
    }

    @Override
    public byte[] bytes(int token) {
      return all;
    }

    @Override
    public boolean isSpecial(int token) {
      return false;
    }
  }

  @Test
  void stopStrings() {
    for (JsonObject example : Vectors.objects(Vectors.at(Vectors.load("text.json"), "stops"))) {
      StopStrings stops = new StopStrings(List.of(Vectors.texts(example.get("strings"))));
      List<String> given = new ArrayList<>();
      for (String piece : Vectors.texts(example.get("pieces"))) {
        given.add(stops.push(piece));
      }
      given.add(stops.finish());
      assertEquals(List.of(Vectors.texts(example.get("given"))), given);
      JsonValue found = example.get("found");
      assertEquals(found.isNull() ? null : found.asString(), stops.found());
    }
    refused("empty", () -> new StopStrings(List.of("a", "")));
  }

  @Test
  void chatsAreWhatTheTemplatesWrite() {
    int formats = 0;
    for (JsonObject format : Vectors.objects(Vectors.load("chat.json"))) {
      ChatFormat chat = ChatFormat.parse(format.get("format").toString().getBytes(StandardCharsets.UTF_8));
      for (JsonObject example : Vectors.objects(format.get("cases"))) {
        List<ChatMessage> messages = new ArrayList<>();
        for (JsonObject message : Vectors.objects(example.get("messages"))) {
          messages.add(new ChatMessage(message.get("role").asString(), message.get("content").asString()));
        }
        assertEquals(example.get("prompt").asString(), chat.prompt(messages));
      }
      refused("no text between", () -> chat.prompt(List.of(new ChatMessage("user", "a"), new ChatMessage("tool", "b"))));
      refused("no text between the start and an answer", () -> chat.prompt(List.of()));
      formats++;
    }
    assertEquals(3, formats);
    refused("damaged", () -> ChatFormat.parse("{}".getBytes(StandardCharsets.UTF_8)));
    StringBuilder roles = new StringBuilder("{\"schema_version\": 1, \"trims\": true, \"joins\": {\"\": {}");
    for (int i = 0; i < 64; i++) {
      roles.append(", \"").append(i).append("\": {}");
    }
    byte[] many = roles.append("}}").toString().getBytes(StandardCharsets.UTF_8);
    refused("more than 64 roles", () -> ChatFormat.parse(many));
  }

  @Test
  void tokenizersWithOtherFeaturesAreRefusedByName() {
    change("a model of type Unigram", file -> file.set("model", Json.parse("{\"type\":\"Unigram\",\"vocab\":[]}")));
    change("byte_fallback", file -> model(file).set("byte_fallback", true));
    change("unk_token", file -> model(file).set("unk_token", "<unk>"));
    change("the normaliser Prepend", file -> file.set("normalizer", typed("Prepend")));
    change("the decoder Metaspace", file -> file.set("decoder", typed("Metaspace")));
    change("does not end with ByteLevel", file -> file.set("pre_tokenizer", typed("Whitespace")));
    change("add_prefix_space", file -> file.set("pre_tokenizer", typed("ByteLevel").add("add_prefix_space", true)));
    change("lstrip", file -> file.set("added_tokens", Json.parse("[{\"id\":1,\"content\":\"<a>\",\"lstrip\":true}]")));
    change("without id", file -> file.set("added_tokens", Json.parse("[{\"content\":\"<a>\"}]")));
    change("not in its vocabulary", file -> model(file).set("merges", Json.parse("[[\"qqq\",\"zzz\"]]")));
    change("merges that are no pairs", file -> model(file).set("merges", Json.parse("[[\"a\"]]")));
    change("expected 0 to", file -> model(file).set("vocab", Json.parse("{\"a\":-1}")));
    change("expected 0 to", file -> model(file).set("vocab", Json.parse("{\"a\":99999999}")));
    change("an integer", file -> model(file).set("vocab", Json.parse("{\"a\":1e99}")));
    change("not a tokenizer", file -> file.remove("model"));
    refused("not a tokenizer", () -> new ByteLevelBpe("nonsense".getBytes(StandardCharsets.UTF_8)));
    String deep = "[".repeat(5000) + "]".repeat(5000);
    refused("not a tokenizer", () -> new ByteLevelBpe(("{\"a\":" + deep + "}").getBytes(StandardCharsets.UTF_8)));
    refused("character class", () -> TokenizerFile.pattern("[a\\S]"));
    refused("cannot be compiled", () -> TokenizerFile.pattern("(a"));
  }

  private static JsonObject model(JsonObject file) {
    return file.get("model").asObject();
  }

  private static JsonObject typed(String type) {
    return new JsonObject().add("type", type);
  }

  private static void change(String needle, Consumer<JsonObject> change) {
    JsonObject file = Vectors.load("tokenizer_digits.json").asObject();
    change.accept(file);
    refused(needle, () -> new ByteLevelBpe(file.toString().getBytes(StandardCharsets.UTF_8)));
  }
}
