package edgemodel.bundle;

import edgemodel.EdgeModelException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.util.Locale;

/** Where a bundle lies on a server, as a person typed it: a zip, or the folder of a manifest. */
final class BundleAddress {
  private static final int MOST_LETTERS = 2000;
  private static final int MOST_PORT = 65_535;

  /** Letters of ASCII that a path has encoded only. */
  private static final String UNSAFE = "%?#[]\"<>\\^`{|}";

  private static final String EXAMPLE = "; type it as http://192.168.1.5:8000/model";

  /** A zip's own address, or that of a folder, which then ends with a slash. */
  final URI address;

  final boolean isZip;

  private BundleAddress(URI address, boolean isZip) {
    this.address = address;
    this.isZip = isZip;
  }

  /**
   * Reads what was typed.
   *
   * @throws EdgeModelException kind OPTION: it is no address of http or https, or has a name and password in it.
   */
  static BundleAddress parse(String typed) {
    String text = typed.trim();
    if (text.isEmpty() || text.length() > MOST_LETTERS) {
      throw EdgeModelException.option(
          (text.isEmpty() ? "there is no address" : "the address has more than " + MOST_LETTERS + " letters")
              + EXAMPLE);
    }
    URI uri;
    try {
      uri = new URI(text);
    } catch (URISyntaxException error) {
      throw EdgeModelException.option(text + " is no address: " + error.getReason() + EXAMPLE);
    }
    String scheme = String.valueOf(uri.getScheme()).toLowerCase(Locale.ROOT);
    if (!scheme.equals("http") && !scheme.equals("https") || uri.getHost() == null) {
      throw EdgeModelException.option(text + " is no address of http or https with a host" + EXAMPLE);
    }
    if (uri.getPort() > MOST_PORT) { // which a connection says by an exception of its own
      throw EdgeModelException.option(text + " has a port above " + MOST_PORT + EXAMPLE);
    }
    if (uri.getRawUserInfo() != null || uri.getRawFragment() != null) {
      throw EdgeModelException.option(text + " has a user or a # in it, which is not sent" + EXAMPLE);
    }
    String path = String.valueOf(uri.getRawPath());
    if (path.toLowerCase(Locale.ROOT).endsWith(".zip")) {
      return new BundleAddress(uri, true);
    }
    if (uri.getRawQuery() != null) {
      throw EdgeModelException.option(text + " has a ? in it, which the address of a folder has not" + EXAMPLE);
    }
    String folder = path.endsWith("/" + EdgeBundle.MANIFEST)
        ? path.substring(0, path.length() - EdgeBundle.MANIFEST.length())
        : path.endsWith("/") ? path : path + "/";
    return new BundleAddress(URI.create(scheme + "://" + uri.getRawAuthority() + folder), false);
  }

  /** The address of a file of the folder: its bytes in UTF-8 as they are, not composed as URI would. */
  URI file(String name) {
    StringBuilder path = new StringBuilder(address.toASCIIString());
    for (byte value : name.getBytes(StandardCharsets.UTF_8)) {
      char letter = (char) (value & 0xff);
      if (letter > ' ' && letter < 0x7f && UNSAFE.indexOf(letter) < 0) {
        path.append(letter);
      } else {
        path.append('%').append(Character.forDigit(letter >> 4, 16)).append(Character.forDigit(letter & 15, 16));
      }
    }
    return URI.create(path.toString());
  }
}
