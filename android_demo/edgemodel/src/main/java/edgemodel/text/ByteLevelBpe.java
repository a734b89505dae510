package edgemodel.text;

import edgemodel.EdgeModelException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Byte-level byte pair encoding (Language Models are Unsupervised Multitask Learners, section 2.2), as
 * Hugging Face's tokenizers run it; the vectors in the tests come from there.
 */
public final class ByteLevelBpe implements TokenCoder {
  /** A vocabulary of a quarter of a million tokens takes about 35 MB. */
  public static final int LIMIT_BYTES = 256 << 20;

  private static final int MOST_ID = 1 << 24;
  private static final byte[] NOTHING = {};

  /** Rank above, result below. */
  private final Map<Long, Long> merges = new HashMap<Long, Long>();

  private final byte[][] tokenBytes;
  private final BitSet special = new BitSet();

  /** Token of each single byte; -1 where there is none: such a byte disappears, as it does in tokenizers. */
  private final int[] byteTokens = new int[256];

  /** Whole words by their bytes, where the file says that they need no merges. */
  private final Map<ByteBuffer, Integer> words = new HashMap<ByteBuffer, Integer>();

  /** Added tokens by their first char, longest first. */
  private final Map<Character, List<TokenizerFile.AddedToken>> added =
      new HashMap<Character, List<TokenizerFile.AddedToken>>();

  private final List<Pattern> splitters;
  private final boolean composes;

  /**
   * Reads a tokenizer.json.
   *
   * @throws EdgeModelException kind TOKENIZER, naming what the file uses and this class lacks.
   */
  public ByteLevelBpe(byte[] tokenizerJson) {
    TokenizerFile file = new TokenizerFile(tokenizerJson);
    splitters = file.splitters;
    composes = file.composes;
    tokenBytes = new byte[highestId(file) + 1][];
    for (Map.Entry<String, Integer> entry : file.vocabulary.entrySet()) {
      tokenBytes[entry.getValue().intValue()] = bytesOf(entry.getKey());
    }
    for (TokenizerFile.AddedToken token : file.added) {
      tokenBytes[token.id] = bytesOf(token.content);
      special.set(token.id, token.special);
      Character first = Character.valueOf(token.content.charAt(0));
      if (!added.containsKey(first)) {
        added.put(first, new ArrayList<TokenizerFile.AddedToken>());
      }
      added.get(first).add(token);
    }
    sortLongestFirst(added);
    for (int value = 0; value < 256; value++) {
      Integer id = file.vocabulary.get(String.valueOf(ALPHABET[value]));
      byteTokens[value] = id == null ? -1 : id.intValue();
    }
    readMerges(file);
    if (file.ignoreMerges) {
      for (Integer id : file.vocabulary.values()) {
        ByteBuffer key = ByteBuffer.wrap(tokenBytes[id.intValue()]);
        Integer other = words.get(key);
        if (other == null || other.intValue() > id.intValue()) {
          words.put(key, id);
        }
      }
    }
  }

  private static void sortLongestFirst(Map<Character, List<TokenizerFile.AddedToken>> added) {
    Comparator<TokenizerFile.AddedToken> longest =
        new Comparator<TokenizerFile.AddedToken>() {
          @Override
          public int compare(TokenizerFile.AddedToken a, TokenizerFile.AddedToken b) {
            return b.content.length() - a.content.length();
          }
        };
    for (List<TokenizerFile.AddedToken> tokens : added.values()) {
      Collections.sort(tokens, longest);
    }
  }

  private static int highestId(TokenizerFile file) {
    int lowest = 0;
    int highest = 0;
    for (Integer id : file.vocabulary.values()) {
      lowest = Math.min(lowest, id.intValue());
      highest = Math.max(highest, id.intValue());
    }
    for (TokenizerFile.AddedToken token : file.added) {
      lowest = Math.min(lowest, token.id);
      highest = Math.max(highest, token.id);
    }
    if (lowest < 0 || highest >= MOST_ID) {
      throw EdgeModelException.tokenizer(
          "tokenizer.json has ids from " + lowest + " to " + highest + ", expected 0 to " + MOST_ID);
    }
    return highest;
  }

  private void readMerges(TokenizerFile file) {
    for (int rank = 0; rank < file.merges.size(); rank++) {
      String left = file.merges.get(rank)[0];
      String right = file.merges.get(rank)[1];
      Integer a = file.vocabulary.get(left);
      Integer b = file.vocabulary.get(right);
      Integer both = file.vocabulary.get(left + right);
      if (a == null || b == null || both == null) {
        throw EdgeModelException.tokenizer(
            "tokenizer.json merges " + left + " and " + right + ", which are not in its vocabulary");
      }
      Long key = Long.valueOf(key(a.intValue(), b.intValue()));
      if (!merges.containsKey(key)) {
        merges.put(key, Long.valueOf((long) rank << 32 | both.intValue()));
      }
    }
  }

  @Override
  public int[] encode(String text) {
    Ids ids = new Ids();
    int plain = 0;
    int index = 0;
    while (index < text.length()) {
      TokenizerFile.AddedToken match = addedAt(text, index);
      if (match == null) {
        index++;
      } else {
        encodePlain(text.substring(plain, index), ids);
        ids.add(match.id);
        index += match.content.length();
        plain = index;
      }
    }
    encodePlain(text.substring(plain), ids);
    return ids.all();
  }

  private TokenizerFile.AddedToken addedAt(String text, int index) {
    List<TokenizerFile.AddedToken> candidates = added.get(Character.valueOf(text.charAt(index)));
    if (candidates != null) {
      for (TokenizerFile.AddedToken token : candidates) {
        if (text.startsWith(token.content, index)) {
          return token;
        }
      }
    }
    return null;
  }

  @Override
  public byte[] bytes(int token) {
    boolean known = token >= 0 && token < tokenBytes.length && tokenBytes[token] != null;
    return known ? tokenBytes[token] : NOTHING;
  }

  @Override
  public boolean isSpecial(int token) {
    return token >= 0 && special.get(token);
  }

  private void encodePlain(String plain, Ids ids) {
    if (plain.isEmpty()) {
      return;
    }
    List<String> pieces = new ArrayList<String>();
    pieces.add(composes ? Normalizer.normalize(plain, Normalizer.Form.NFC) : plain);
    for (Pattern splitter : splitters) {
      List<String> smaller = new ArrayList<String>();
      for (String piece : pieces) {
        split(piece, splitter, smaller);
      }
      pieces = smaller;
    }
    for (String piece : pieces) {
      encodeWord(piece.getBytes(StandardCharsets.UTF_8), ids);
    }
  }

  /** Matches and what lies between them are pieces. */
  private static void split(String text, Pattern splitter, List<String> into) {
    Matcher matcher = splitter.matcher(text);
    int end = 0;
    while (matcher.find()) {
      if (matcher.start() > end) {
        into.add(text.substring(end, matcher.start()));
      }
      if (matcher.end() > matcher.start()) {
        into.add(matcher.group());
      }
      end = matcher.end();
    }
    if (end < text.length()) {
      into.add(text.substring(end));
    }
  }

  /** Merges the pair of the lowest rank, the leftmost among equals, until none is left: n log n of n bytes. */
  private void encodeWord(byte[] word, Ids ids) {
    Integer whole = words.isEmpty() ? null : words.get(ByteBuffer.wrap(word));
    if (whole != null) {
      ids.add(whole.intValue());
      return;
    }
    int[] symbols = new int[word.length];
    int count = 0;
    for (byte value : word) {
      int token = byteTokens[value & 0xFF];
      if (token >= 0) {
        symbols[count++] = token;
      }
    }
    mergePairs(symbols, count);
    for (int i = 0; i < count; i++) {
      if (symbols[i] >= 0) {
        ids.add(symbols[i]);
      }
    }
  }

  /** Leaves a merged symbol in the place of its first byte, and -1 in those of the others. */
  private void mergePairs(int[] symbols, int count) {
    int[] next = new int[count];
    int[] previous = new int[count];
    // Rank above, place below: a pair that a merge has changed meanwhile is found out when its turn comes.
    PriorityQueue<Long> queue = new PriorityQueue<Long>();
    for (int i = 0; i < count; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
      offer(queue, symbols, i, i + 1, count);
    }
    while (!queue.isEmpty()) {
      long first = queue.poll().longValue();
      int place = (int) first;
      if (symbols[place] < 0 || next[place] == count) {
        continue;
      }
      int right = next[place];
      long found = merge(symbols[place], symbols[right]);
      if (found < 0 || found >> 32 != first >> 32) {
        continue;
      }
      symbols[place] = (int) found;
      symbols[right] = -1;
      next[place] = next[right];
      if (next[place] < count) {
        previous[next[place]] = place;
      }
      offer(queue, symbols, previous[place], place, count);
      offer(queue, symbols, place, next[place], count);
    }
  }

  private void offer(PriorityQueue<Long> queue, int[] symbols, int left, int right, int count) {
    long found = left < 0 || right >= count ? -1 : merge(symbols[left], symbols[right]);
    if (found >= 0) {
      queue.add(Long.valueOf(found >> 32 << 32 | left));
    }
  }

  private long merge(int left, int right) {
    Long found = merges.get(Long.valueOf(key(left, right)));
    return found == null ? -1 : found.longValue();
  }

  private static long key(int left, int right) {
    return (long) left << 32 | right;
  }

  /** The bytes that a token's text stands for; text beyond the alphabet stands for itself. */
  private static byte[] bytesOf(String text) {
    byte[] bytes = new byte[text.length()];
    for (int i = 0; i < bytes.length; i++) {
      char character = text.charAt(i);
      int value = character < BYTES.length ? BYTES[character] : -1;
      if (value < 0) {
        return text.getBytes(StandardCharsets.UTF_8);
      }
      bytes[i] = (byte) value;
    }
    return bytes;
  }

  // GPT-2's printable stand-ins for the 256 bytes: visible Latin-1 characters for themselves, the other bytes
  // counted up from U+0100.
  private static final char[] ALPHABET = new char[256];
  private static final int[] BYTES = new int[512];

  static {
    Arrays.fill(BYTES, -1);
    char next = 256;
    for (int value = 0; value < 256; value++) {
      boolean visible = value >= 33 && value <= 126 || value >= 161 && value <= 172 || value >= 174;
      ALPHABET[value] = visible ? (char) value : next++;
      BYTES[ALPHABET[value]] = value;
    }
  }

  /** A growing list of token ids. */
  private static final class Ids {
    private int[] values = new int[64];
    private int count;

    void add(int id) {
      if (count == values.length) {
        values = Arrays.copyOf(values, 2 * count);
      }
      values[count++] = id;
    }

    int[] all() {
      return Arrays.copyOf(values, count);
    }
  }
}
