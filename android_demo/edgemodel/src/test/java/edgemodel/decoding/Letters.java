package edgemodel.decoding;

import edgemodel.text.TokenCoder;
import java.nio.charset.StandardCharsets;

/** One letter a token; 26 ends an answer, 27 is special, 28 and 29 are the two halves of é. */
final class Letters implements TokenCoder {
  static final int END = 26;

  @Override
  public int[] encode(String text) {
    return text.chars().map(letter -> letter - 97).toArray();
  }

  @Override
  public byte[] bytes(int token) {
    if (token < 26) {
      return new byte[] {(byte) (97 + token)};
    }
    if (token == 28 || token == 29) {
      return new byte[] {(byte) (token == 28 ? 0xC3 : 0xA9)};
    }
    return ("<" + token + ">").getBytes(StandardCharsets.US_ASCII);
  }

  @Override
  public boolean isSpecial(int token) {
    return token == 26 || token == 27;
  }
}
