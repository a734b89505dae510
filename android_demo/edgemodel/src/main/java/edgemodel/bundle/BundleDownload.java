package edgemodel.bundle;

import edgemodel.EdgeModelException;
import edgemodel.steps.StopSignal;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Puts a bundle that lies on a server on a shelf: a zip, or a folder with its manifest, such as
 * `python -m http.server` gives out. Of a folder the manifest comes first, so that all sizes are known before,
 * and each file is compared with its digest when it has come; what a stop or the end of the process left
 * unfinished goes on at the byte where it stood, as long as the server has the same manifest. The shelf holds
 * whole bundles only.
 *
 * <p>It talks to the address that was typed and to none that this leads to. The digests say that what came is
 * what the manifest describes, not who wrote it: with http anybody in between may have.
 */
public final class BundleDownload {
  private static final String DOWNLOAD = ".download";
  private static final String FROM = "from.txt";
  private static final String BUNDLE = "bundle";
  private static final int PART_BYTES = 1 << 16;
  private static final long KEPT_DAYS = 7;

  private final File shelf;
  private final long limitBytes;
  private final StopSignal signal;
  private final BundleImport.Progress progress;
  private final File download;
  private long came;
  private long total;

  /**
   * @param shelf where bundles are kept; made if it is not there.
   * @param limitBytes most that may be written.
   * @param signal stops it; seen after ten seconds at most where the server says nothing.
   * @param progress null for none.
   */
  public BundleDownload(
      File shelf, long limitBytes, StopSignal signal, BundleImport.Progress progress) {
    this.shelf = shelf;
    this.limitBytes = limitBytes;
    this.signal = signal;
    this.progress = progress;
    download = new File(shelf, DOWNLOAD);
  }

  /** The address of a download that is not finished and can go on; null for none. */
  public static String kept(File shelf) {
    File folder = new File(shelf, DOWNLOAD);
    try {
      return new File(new File(folder, BUNDLE), EdgeBundle.MANIFEST).isFile()
          ? new String(Files.readAllBytes(new File(folder, FROM).toPath()), StandardCharsets.UTF_8)
          : null;
    } catch (IOException error) {
      return null; // it starts over
    }
  }

  /** Deletes a download that cannot go on, or has not for a week. */
  static void recover(File shelf) {
    File folder = new File(shelf, DOWNLOAD);
    long age = System.currentTimeMillis() - new File(folder, FROM).lastModified();
    if (folder.exists() && (kept(shelf) == null || age > TimeUnit.DAYS.toMillis(KEPT_DAYS))) {
      BundleImport.delete(folder);
    }
  }

  /**
   * Fetches, checks and keeps a bundle; one of the same name is replaced.
   *
   * @param typed address of a zip (it ends with .zip), or of a folder or its manifest.json.
   * @return its folder; null when the signal said to stop.
   * @throws EdgeModelException kind OPTION: it is no address; BUNDLE or CAPACITY: there is no whole bundle, it
   *     is too large, or the server cannot be reached. The shelf is as it was.
   */
  public File run(String typed) {
    BundleAddress from = BundleAddress.parse(typed);
    try {
      return from.isZip ? unzip(from) : fetch(from);
    } catch (IOException error) {
      if (signal.stops()) {
        return null;
      }
      throw new EdgeModelException(
          EdgeModelException.Kind.BUNDLE,
          from.address + " cannot be fetched: " + reason(error)
              + "; look at the server, the network, and the room that is free here",
          error);
    }
  }

  private static String reason(IOException error) {
    if (error instanceof UnknownHostException) {
      return "no such host is known";
    }
    return error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage();
  }

  private File unzip(BundleAddress from) throws IOException {
    try (HttpFile zip = open(from.address, 0)) {
      return new BundleImport(shelf, limitBytes, signal, progress).run(zip.stream);
    } catch (EdgeModelException error) {
      if (signal.stops()) {
        return null;
      }
      throw error;
    }
  }

  private File fetch(BundleAddress from) throws IOException {
    byte[] manifest = small(open(from.file(EdgeBundle.MANIFEST), 0), Manifest.LIMIT_BYTES);
    Manifest listed = Manifest.parse(manifest);
    expectNames(listed);
    File folder = begin(from, manifest);
    expectRoom(listed, folder);
    // The one file that no manifest lists, so it is never one of an earlier try.
    File chatFormat = new File(folder, EdgeBundle.CHAT_FORMAT);
    BundleImport.delete(chatFormat);
    HttpFile format = HttpFile.open(from.file(EdgeBundle.CHAT_FORMAT), 0, signal);
    if (format != null) {
      Files.write(chatFormat.toPath(), small(format, EdgeBundle.CHAT_FORMAT_LIMIT_BYTES));
    }
    EdgeBundle bundle = new EdgeBundle(folder);
    for (String name : listed.files.keySet()) {
      if (!bring(bundle, name, from.file(name))) {
        return null;
      }
    }
    if (signal.stops()) {
      return null;
    }
    bundle.chatFormat(); // what is wrong with it is said now, not at the next start
    File kept = BundleImport.keep(shelf, bundle);
    BundleImport.delete(download);
    return kept;
  }

  /** Names that stay within the bundle, and are not those of files that no manifest lists. */
  private static void expectNames(Manifest listed) {
    for (String name : listed.files.keySet()) {
      BundleImport.expectShort(name);
      EdgeBundle.expectName(name);
      if (name.equals(EdgeBundle.MANIFEST) || name.equals(EdgeBundle.CHAT_FORMAT)) {
        throw EdgeModelException.bundle("the manifest lists " + name + ", which no bundle does; do not use it");
      }
    }
  }

  /** The folder to write to: with what came before from the same address, for the same manifest. */
  private File begin(BundleAddress from, byte[] manifest) throws IOException {
    File folder = new File(download, BUNDLE);
    File file = new File(folder, EdgeBundle.MANIFEST);
    String address = from.address.toString();
    boolean same = address.equals(kept(shelf)) && Arrays.equals(manifest, Files.readAllBytes(file.toPath()));
    if (!same) {
      BundleImport.delete(download);
      if (!folder.mkdirs()) {
        throw EdgeModelException.bundle(shelf + " cannot be written to; free some room");
      }
      Files.write(file.toPath(), manifest);
    }
    Files.write(new File(download, FROM).toPath(), address.getBytes(StandardCharsets.UTF_8));
    return folder;
  }

  private void expectRoom(Manifest listed, File folder) {
    long left = limitBytes;
    for (Map.Entry<String, FileRecord> entry : listed.files.entrySet()) {
      long size = entry.getValue().sizeBytes;
      long here = Math.min(new File(folder, entry.getKey()).length(), size);
      if (size - here > left) {
        BundleImport.delete(download);
        throw EdgeModelException.capacity(
            "the bundle has more than " + (limitBytes >> 20) + " MiB; free some room, or choose a smaller one");
      }
      left -= size - here;
      total += size;
    }
  }

  /** Fetches what is missing of a file and compares it; false when the signal said to stop. */
  private boolean bring(EdgeBundle bundle, String name, URI address) throws IOException {
    File file = new File(bundle.folder, name);
    File folder = file.getParentFile();
    if (!folder.isDirectory() && !folder.mkdirs()) {
      throw EdgeModelException.bundle(folder.getName() + " cannot be made; do not use this bundle");
    }
    long before = came;
    long size = bundle.manifest.files.get(name).sizeBytes;
    boolean resumed = file.length() > 0;
    for (int round = resumed ? 0 : 1; round < 2; round++) {
      came = before;
      if (!append(address, file, size)) {
        return false;
      }
      if (bundle.isWhole(name)) {
        return true;
      }
      // What stood there was not its beginning, after a failure of power for one: from the first byte, then.
      BundleImport.delete(file);
    }
    throw EdgeBundle.notDescribed(name);
  }

  private boolean append(URI address, File file, long size) throws IOException {
    long here = file.length();
    if (here == size && file.isFile()) {
      say(size);
      return !signal.stops();
    }
    try (HttpFile from = open(address, here < size ? here : 0);
        FileOutputStream out = new FileOutputStream(file, from.start > 0)) {
      long left = size - from.start;
      if (from.length >= 0 && from.length != left) {
        throw EdgeModelException.bundle(
            address + " has " + (from.start + from.length) + " bytes, the manifest says " + size
                + "; serve the whole bundle");
      }
      say(from.start);
      byte[] part = new byte[PART_BYTES];
      for (int count = from.stream.read(part); count >= 0; count = from.stream.read(part)) {
        left -= count;
        if (left < 0) {
          throw EdgeModelException.bundle(
              address + " has more than the " + size + " bytes of the manifest; serve the whole bundle");
        }
        out.write(part, 0, count);
        if (signal.stops()) {
          return false;
        }
        say(count);
      }
      if (left > 0) {
        throw new IOException(address + " ended " + left + " bytes before its end");
      }
      out.getFD().sync();
    }
    return true;
  }

  private void say(long bytes) {
    came += bytes;
    if (progress != null) {
      progress.onBytes(came, total);
    }
  }

  /** Opens what must be there. */
  private HttpFile open(URI address, long from) throws IOException {
    HttpFile file = HttpFile.open(address, from, signal);
    if (file == null) {
      throw EdgeModelException.bundle(
          "the server has no " + address + "; name the folder of a bundle's manifest.json, or a zip");
    }
    return file;
  }

  /** All of a file, which is closed then. */
  private static byte[] small(HttpFile file, int limitBytes) throws IOException {
    ByteArrayOutputStream all = new ByteArrayOutputStream();
    byte[] part = new byte[PART_BYTES];
    try (HttpFile closed = file;
        InputStream stream = closed.stream) {
      for (int count = stream.read(part); count >= 0; count = stream.read(part)) {
        all.write(part, 0, count);
        if (all.size() > limitBytes) {
          throw EdgeModelException.bundle(
              "the server gives more than " + (limitBytes >> 20) + " MiB as a manifest or format; it has no bundle");
        }
      }
    }
    if (file.length >= 0 && all.size() != file.length) {
      throw new IOException("a manifest ended after " + all.size() + " of " + file.length + " bytes");
    }
    return all.toByteArray();
  }
}
