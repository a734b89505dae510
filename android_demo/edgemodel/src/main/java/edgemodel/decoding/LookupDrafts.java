package edgemodel.decoding;

import java.util.Arrays;

/**
 * Guesses what follows by looking up where the last tokens stood before, in the prompt and the answer so far
 * (Saxena: Prompt lookup decoding, 2023). Hash chains over pairs of tokens, as compressors find matches (RFC
 * 1951, section 4); the longest match wins, the newest among equals, and a text that repeats itself is
 * continued by its own repetition.
 *
 * <p>It follows edgesdk/drafts/lookup.py, with chains only. Guesses cost what they judge, so it guesses less
 * where it was wrong: half as much after a step that kept nothing, nothing for a while after several.
 */
final class LookupDrafts {
  private static final int LONGEST_MATCH = 32;
  private static final int CHAIN = 16;
  private static final int TABLE = 1 << 12;
  private static final int FIRST_GUESS = 4;
  private static final int MISSES_BEFORE_REST = 3;
  private static final int REST_STEPS = 16;

  private final int[] last = new int[TABLE];
  private int[] tokens = new int[1024];
  private int[] before = new int[1024];
  private int count;
  private int most = FIRST_GUESS;
  private int misses;
  private int rest;

  LookupDrafts() {
    Arrays.fill(last, -1);
  }

  void add(int token) {
    if (count == tokens.length) {
      tokens = Arrays.copyOf(tokens, 2 * count);
      before = Arrays.copyOf(before, 2 * count);
    }
    tokens[count++] = token;
    if (count >= 2) {
      // A pair is found by the place after it, where its continuation stands.
      int key = key(tokens[count - 2], token);
      before[count - 1] = last[key];
      last[key] = count;
    }
  }

  /**
   * Writes a guess of what follows the tokens so far.
   *
   * @param room most tokens that are wanted.
   * @return how many there are.
   */
  int guess(int[] into, int start, int room) {
    if (rest > 0) {
      rest--;
      return 0;
    }
    int wanted = Math.min(room, most);
    if (count < 2 || wanted < 1) {
      return 0;
    }
    int bestPlace = -1;
    int bestLength = 1;
    int place = before[count - 1];
    for (int i = 0; i < CHAIN && place >= 0; i++) {
      int length = matched(place);
      if (length > bestLength) {
        bestLength = length;
        bestPlace = place;
      }
      place = before[place - 1];
    }
    if (bestPlace < 0) {
      return 0;
    }
    int period = count - bestPlace;
    for (int i = 0; i < wanted; i++) {
      into[start + i] = tokens[bestPlace + i % period];
    }
    return wanted;
  }

  /** Learns from a step: how many of the guessed tokens were kept. */
  void judged(int guessed, int kept) {
    if (guessed == 0) {
      return;
    }
    if (kept == guessed) {
      most = Math.min(2 * most, LONGEST_MATCH);
    }
    if (kept > 0) {
      misses = 0;
      return;
    }
    most = Math.max(1, most / 2);
    if (++misses >= MISSES_BEFORE_REST) {
      misses = 0;
      rest = REST_STEPS;
    }
  }

  /** How many tokens before a place equal the last ones. */
  private int matched(int place) {
    int length = 0;
    while (length < LONGEST_MATCH && length < place && tokens[place - 1 - length] == tokens[count - 1 - length]) {
      length++;
    }
    return length;
  }

  private static int key(int left, int right) {
    int hash = left * 0x9E3779B9 + right * 0x85EBCA6B;
    return (hash ^ hash >>> 15) & TABLE - 1;
  }
}
