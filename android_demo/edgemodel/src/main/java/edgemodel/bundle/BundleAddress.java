package edgemodel.bundle;

import edgemodel.EdgeModelException;
import java.net.URI;
import java.net.URISyntaxException;
import java.util.Locale;

/** Where a bundle lies on a server, as a person typed it: a zip, or the folder of a manifest. */
final class BundleAddress {
  private static final int MOST_LETTERS = 2000;
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

  /** The address of a file of the folder. */
  URI file(String name) {
    try {
      String encoded = new URI(null, null, "/" + name, null).toASCIIString();
      return URI.create(address.toASCIIString() + encoded.substring(1));
    } catch (URISyntaxException error) {
      throw EdgeModelException.bundle(name + " is no name within a bundle; do not use this bundle");
    }
  }
}
