package edgemodel.text;

import java.util.Arrays;

/**
 * Joins the bytes of tokens to text, never half a character.
 *
 * <p>Bytes that may still become a character wait for the next token. Bytes that cannot become U+FFFD, one for
 * the longest start of a character (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"), as in
 * Python. Java's own decoder has one for all of an encoded surrogate, so it is not used.
 */
public final class Detokenizer {
  private final TokenCoder coder;
  private final boolean skipSpecial;
  private byte[] waiting = new byte[64];
  private int count;

  public Detokenizer(TokenCoder coder, boolean skipSpecial) {
    this.coder = coder;
    this.skipSpecial = skipSpecial;
  }

  /** Text of token ids; bytes that are not UTF-8 become U+FFFD. */
  public static String decode(TokenCoder coder, int[] tokens, boolean skipSpecial) {
    Detokenizer detokenizer = new Detokenizer(coder, skipSpecial);
    StringBuilder text = new StringBuilder();
    for (int token : tokens) {
      text.append(detokenizer.push(token));
    }
    return text.append(detokenizer.finish()).toString();
  }

  /** Adds a token; returns the text that is certain now, often empty within a character. */
  public String push(int token) {
    if (skipSpecial && coder.isSpecial(token)) {
      return "";
    }
    byte[] bytes = coder.bytes(token);
    if (count + bytes.length > waiting.length) {
      waiting = Arrays.copyOf(waiting, 2 * (count + bytes.length));
    }
    System.arraycopy(bytes, 0, waiting, count, bytes.length);
    count += bytes.length;
    return take(count - unfinishedTail(waiting, count));
  }

  /** Ends the text; returns what was held back. */
  public String finish() {
    return take(count);
  }

  private String take(int whole) {
    if (whole == 0) {
      return "";
    }
    StringBuilder text = new StringBuilder(whole);
    for (int start = 0; start < whole; ) {
      start += decode(start, whole, text);
    }
    count -= whole;
    System.arraycopy(waiting, whole, waiting, 0, count);
    return text.toString();
  }

  /** Adds the character at a place, or U+FFFD; returns how many bytes that was. */
  private int decode(int start, int end, StringBuilder text) {
    int lead = waiting[start] & 0xFF;
    int needed = length(lead);
    int seen = 1;
    while (seen < needed && start + seen < end && continues(lead, seen, waiting[start + seen] & 0xFF)) {
      seen++;
    }
    if (needed == 0 || seen < needed) {
      text.append('\uFFFD');
      return seen;
    }
    int character = needed == 1 ? lead : lead & 0x7F >> needed;
    for (int i = 1; i < needed; i++) {
      character = character << 6 | waiting[start + i] & 0x3F;
    }
    text.appendCodePoint(character);
    return needed;
  }

  /** How many bytes at the end begin a character that more bytes could complete. */
  static int unfinishedTail(byte[] bytes, int count) {
    for (int tail = 1; tail <= 3 && tail <= count; tail++) {
      int lead = bytes[count - tail] & 0xFF;
      if (lead >= 0x80 && lead < 0xC0) {
        continue; // a continuation byte: look further back
      }
      boolean open = tail < length(lead);
      for (int i = 1; i < tail; i++) {
        open = open && continues(lead, i, bytes[count - tail + i] & 0xFF);
      }
      return open ? tail : 0;
    }
    return 0;
  }

  /** Bytes of a character with this first byte (Unicode 15, table 3-7); 0 for what begins none. */
  private static int length(int lead) {
    if (lead < 0x80) {
      return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
      return 0;
    }
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  }

  /** Whether a byte may stand at a place, from 1, after a first byte. */
  private static boolean continues(int lead, int place, int value) {
    int lowest = place > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    int highest = place > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return value >= lowest && value <= highest;
  }
}
