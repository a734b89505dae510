package edgemodel.text;

import edgemodel.EdgeModelException;
import java.util.ArrayList;
import java.util.List;

/**
 * Watches a stream of text for stop strings, wherever its pieces begin and end.
 *
 * <p>Text that may be the start of a stop string is held back. The stop string that is complete first wins,
 * the longest among those that end at the same place.
 */
public final class StopStrings {
  private final List<String> strings;
  private String held = "";
  private String found;

  /**
   * @throws EdgeModelException kind OPTION: one is empty.
   */
  public StopStrings(List<String> strings) {
    if (strings.contains("")) {
      throw EdgeModelException.option("a stop string is empty, expected at least one character");
    }
    this.strings = new ArrayList<String>(strings);
  }

  /** The stop string that ended the text; null until there is one. */
  public String found() {
    return found;
  }

  /** Adds text; returns what is certainly before any stop string. */
  public String push(String text) {
    if (found != null) {
      return "";
    }
    if (strings.isEmpty()) {
      return text;
    }
    held = held.isEmpty() ? text : held + text;
    int start = -1;
    for (String stop : strings) {
      int place = held.indexOf(stop);
      if (place < 0) {
        continue;
      }
      int end = place + stop.length();
      int best = start < 0 ? Integer.MAX_VALUE : start + found.length();
      if (end < best || end == best && place < start) {
        start = place;
        found = stop;
      }
    }
    if (start >= 0) {
      String before = held.substring(0, start);
      held = "";
      return before;
    }
    int keep = 0;
    for (String stop : strings) {
      keep = Math.max(keep, overlap(held, stop));
    }
    String certain = held.substring(0, held.length() - keep);
    held = held.substring(held.length() - keep);
    return certain;
  }

  /** Ends the text; returns what was held back for a stop string that never came. */
  public String finish() {
    String rest = held;
    held = "";
    return rest;
  }

  /** Length of the longest start of `stop`, short of all of it, that `text` ends with. */
  private static int overlap(String text, String stop) {
    int length = Math.min(text.length(), stop.length() - 1);
    while (length > 0 && !text.regionMatches(text.length() - length, stop, 0, length)) {
      length--;
    }
    return length;
  }
}
