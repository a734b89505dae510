package edgemodel.text;

/**
 * Unicode's White_Space (PropList.txt; unchanged since Unicode 6.3). Spelled out, because `\s` of a regular
 * expression is another set on the JVM and on Android, and neither is that of tokenizer.json.
 */
public final class WhiteSpace {
  /** For the inside of a character class of a regular expression. */
  static final String CLASS =
      "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

  private WhiteSpace() {}

  static boolean contains(int character) {
    return character >= '\t' && character <= '\r'
        || character == ' '
        || character == 0x85
        || character == 0xA0
        || character == 0x1680
        || character >= 0x2000 && character <= 0x200A
        || character == 0x2028
        || character == 0x2029
        || character == 0x202F
        || character == 0x205F
        || character == 0x3000;
  }

  /** Without white space at its ends, as Python and so jinja2 count it; it is all below U+10000. */
  public static String trimmed(String text) {
    int start = 0;
    int end = text.length();
    while (start < end && isPythons(text.charAt(start))) {
      start++;
    }
    while (end > start && isPythons(text.charAt(end - 1))) {
      end--;
    }
    return text.substring(start, end);
  }

  private static boolean isPythons(char character) {
    return character >= 0x1C && character <= 0x1F || contains(character);
  }
}
