package edgemodel.text;

import com.eclipsesource.json.JsonObject;
import com.eclipsesource.json.JsonValue;
import edgemodel.EdgeModelException;
import edgemodel.bundle.JsonFields;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * Reads the features of a tokenizer.json that byte-level BPE needs, and refuses all others by name.
 *
 * <p>Covered: model BPE (merges as pairs or as lines, ignore_merges); no normaliser or NFC; pre-tokenisers
 * ByteLevel, Digits, Split with a regular expression, and sequences of them; decoder ByteLevel; added tokens
 * that match anywhere. That is GPT-2, SmolLM, Llama 3, Qwen and their kin. The post-processor is not run:
 * edgesdk never lets it add tokens.
 */
final class TokenizerFile {
  /** A token that is found in text before anything is split. */
  static final class AddedToken {
    final int id;
    final String content;
    final boolean special;

    AddedToken(int id, String content, boolean special) {
      this.id = id;
      this.content = content;
      this.special = special;
    }
  }

  /** What the ByteLevel pre-tokeniser splits by (Hugging Face tokenizers, pre_tokenizers/byte_level.rs). */
  private static final String BYTE_LEVEL =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

  final Map<String, Integer> vocabulary = new HashMap<String, Integer>();
  final List<String[]> merges = new ArrayList<String[]>();
  final List<Pattern> splitters = new ArrayList<Pattern>();
  final List<AddedToken> added = new ArrayList<AddedToken>();
  boolean ignoreMerges;
  boolean composes;

  TokenizerFile(byte[] utf8) {
    JsonFields file;
    try {
      file = JsonFields.parse(utf8, "tokenizer.json");
      readModel(file.object("model"));
      for (JsonFields entry : file.has("added_tokens") ? file.objects("added_tokens") : new ArrayList<JsonFields>()) {
        readAdded(entry);
      }
      readNormalizer(file.optionalObject("normalizer"));
      readPreTokenizer(file.optionalObject("pre_tokenizer"));
      JsonFields decoder = file.optionalObject("decoder");
      String type = decoder == null ? "none" : decoder.string("type");
      if (!type.equals("ByteLevel")) {
        throw lacks("the decoder " + type);
      }
    } catch (EdgeModelException error) {
      if (error.kind() == EdgeModelException.Kind.TOKENIZER) {
        throw error;
      }
      throw EdgeModelException.tokenizer("tokenizer.json is not a tokenizer: " + error.getMessage());
    }
  }

  private void readModel(JsonFields model) {
    String type = model.has("type") ? model.string("type") : "BPE";
    if (!type.equals("BPE")) {
      throw lacks("a model of type " + type);
    }
    for (String key : new String[] {"byte_fallback", "fuse_unk"}) {
      if (model.has(key) && model.bool(key)) {
        throw lacks(key);
      }
    }
    for (String key : new String[] {"continuing_subword_prefix", "end_of_word_suffix", "unk_token"}) {
      if (model.has(key) && !model.string(key).isEmpty()) {
        throw lacks(key);
      }
    }
    Float dropout = model.optionalFloat("dropout");
    if (dropout != null && dropout.floatValue() != 0) {
      throw lacks("dropout");
    }
    JsonValue vocab = model.value("vocab");
    if (vocab == null || !vocab.isObject()) {
      throw EdgeModelException.tokenizer("tokenizer.json has no vocabulary; convert the bundle again");
    }
    JsonFields vocabularyFields = model.object("vocab");
    for (JsonObject.Member member : vocab.asObject()) {
      // Not looked up by name: twice as fast for a quarter of a million tokens.
      int id = member.getValue().isNumber() ? number(member.getValue()) : vocabularyFields.integer(member.getName());
      vocabulary.put(member.getName(), Integer.valueOf(id));
    }
    ignoreMerges = model.has("ignore_merges") && model.bool("ignore_merges");
    for (JsonValue merge : model.array("merges")) {
      merges.add(pair(merge));
    }
  }

  private static int number(JsonValue value) {
    try {
      return value.asInt();
    } catch (NumberFormatException error) {
      throw EdgeModelException.tokenizer("tokenizer.json has the id " + value + ", expected an integer");
    }
  }

  private static String[] pair(JsonValue merge) {
    if (merge.isString()) {
      String[] parts = merge.asString().split(" ", -1);
      if (parts.length == 2) {
        return parts;
      }
    } else if (merge.isArray() && merge.asArray().size() == 2) {
      JsonValue left = merge.asArray().get(0);
      JsonValue right = merge.asArray().get(1);
      if (left.isString() && right.isString()) {
        return new String[] {left.asString(), right.asString()};
      }
    }
    throw lacks("merges that are no pairs");
  }

  private void readAdded(JsonFields entry) {
    String content = entry.has("content") ? entry.string("content") : "";
    if (!entry.has("id") || content.isEmpty()) {
      throw EdgeModelException.tokenizer("tokenizer.json has an added token without id or text");
    }
    for (String key : new String[] {"single_word", "lstrip", "rstrip"}) {
      if (entry.has(key) && entry.bool(key)) {
        throw lacks(key + " of the added token " + content);
      }
    }
    boolean special = entry.has("special") && entry.bool("special");
    added.add(new AddedToken(entry.integer("id"), content, special));
  }

  private void readNormalizer(JsonFields normalizer) {
    if (normalizer == null) {
      return;
    }
    String type = normalizer.has("type") ? normalizer.string("type") : "without a type";
    if (!type.equals("NFC")) {
      throw lacks("the normaliser " + type);
    }
    composes = true;
  }

  private void readPreTokenizer(JsonFields step) {
    if (step == null) {
      throw lacks("no pre-tokeniser");
    }
    if (step.has("type") && step.string("type").equals("Sequence")) {
      List<JsonFields> steps = step.objects("pretokenizers");
      for (int i = 0; i < steps.size(); i++) {
        readSplitter(steps.get(i), i == steps.size() - 1);
      }
    } else {
      readSplitter(step, true);
    }
  }

  private void readSplitter(JsonFields step, boolean isLast) {
    String type = step.has("type") ? step.string("type") : "without a type";
    if (type.equals("ByteLevel") != isLast) {
      throw lacks("a pre-tokeniser that does not end with ByteLevel");
    }
    if (type.equals("ByteLevel")) {
      if (!step.has("add_prefix_space") || step.bool("add_prefix_space")) {
        throw lacks("add_prefix_space");
      }
      if (!step.has("use_regex") || step.bool("use_regex")) {
        splitters.add(pattern(BYTE_LEVEL));
      }
    } else if (type.equals("Digits")) {
      boolean alone = step.has("individual_digits") && step.bool("individual_digits");
      splitters.add(pattern(alone ? "\\p{N}" : "\\p{N}+"));
    } else if (type.equals("Split")) {
      JsonFields by = step.optionalObject("pattern");
      boolean inverted = step.has("invert") && step.bool("invert");
      if (by == null || !by.has("Regex") || !"Isolated".equals(step.optionalString("behavior")) || inverted) {
        throw lacks("a Split that is not by an isolated regular expression");
      }
      splitters.add(pattern(by.string("Regex")));
    } else {
      throw lacks("the pre-tokeniser " + type);
    }
  }

  /**
   * Compiles a pattern of tokenizer.json, which is written for another engine: there, `\s` is Unicode's
   * White_Space, which the JVM and Android each lack in their own way, and (?i: compares all letters.
   */
  static Pattern pattern(String source) {
    StringBuilder translated = new StringBuilder();
    int depth = 0; // of character classes
    for (int i = 0; i < source.length(); i++) {
      char c = source.charAt(i);
      if (c == '\\' && i + 1 < source.length()) {
        char escaped = source.charAt(++i);
        if (escaped == 's') {
          translated.append(depth > 0 ? WhiteSpace.CLASS : "[" + WhiteSpace.CLASS + "]");
        } else if (escaped == 'S' && depth == 0) {
          translated.append("[^").append(WhiteSpace.CLASS).append("]");
        } else if (escaped == 'S') {
          throw lacks("\\S within a character class");
        } else {
          translated.append(c).append(escaped);
        }
      } else {
        depth += c == '[' ? 1 : c == ']' ? -1 : 0;
        translated.append(c);
      }
    }
    try {
      return Pattern.compile(translated.toString(), Pattern.UNICODE_CASE);
    } catch (PatternSyntaxException error) {
      throw EdgeModelException.tokenizer(
          "tokenizer.json splits by a pattern that cannot be compiled here: " + source);
    }
  }

  private static EdgeModelException lacks(String feature) {
    return EdgeModelException.tokenizer(
        "tokenizer.json uses " + feature + ", which this library lacks; give it another TokenCoder");
  }
}
