package edgemodel.bundle;

import edgemodel.EdgeModelException;
import edgemodel.steps.StopSignal;
import java.io.File;
import java.io.FileFilter;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/**
 * Puts bundles that come as a zip on a shelf, a folder of bundles. Whatever ends the process, the shelf holds
 * whole bundles only: files are written beside it under another name, checked against their digests, and
 * renamed. What an earlier process left behind, `recover` clears.
 */
public final class BundleImport {
  private static final String INCOMING = ".incoming-";
  private static final String REPLACED = ".replaced-";
  private static final int MOST_FILES = Manifest.MOST_FILES;
  private static final int MOST_DEPTH = 8;
  private static final int MOST_NAME = 1024;
  private static final int SHOWN_NAME = 100;
  private static final int PART_BYTES = 1 << 20;

  /** Hears how far an import is. */
  public interface Progress {
    /**
     * @param bytes that have come.
     * @param total of all; -1 where it is not known before, as of a zip.
     */
    void onBytes(long bytes, long total);
  }

  private final File shelf;
  private final long limitBytes;
  private final StopSignal signal;
  private final Progress progress;

  /**
   * @param shelf where bundles are kept; made if it is not there.
   * @param limitBytes most that a bundle may unpack to.
   * @param signal stops an import.
   * @param progress null for none.
   */
  public BundleImport(File shelf, long limitBytes, StopSignal signal, Progress progress) {
    this.shelf = shelf;
    this.limitBytes = limitBytes;
    this.signal = signal;
    this.progress = progress;
  }

  /** The bundles of a shelf. */
  public static File[] bundles(File shelf) {
    File[] found =
        shelf.listFiles(
            new FileFilter() {
              @Override
              public boolean accept(File file) {
                return !file.getName().startsWith(".") && new File(file, EdgeBundle.MANIFEST).isFile();
              }
            });
    if (found == null) {
      return new File[0];
    }
    Arrays.sort(found);
    return found;
  }

  /**
   * Makes a shelf whole after a process that was ended in the middle; call it when an app starts. Of a
   * download under way what has come is kept, so that it can go on.
   */
  public static void recover(File shelf) {
    File[] files = shelf.listFiles();
    if (files == null) {
      return;
    }
    for (File file : files) {
      String name = file.getName();
      if (name.startsWith(REPLACED)) {
        File target = new File(shelf, name.substring(REPLACED.length()));
        // Ended between the two renames of a replacement: the old one is the whole one.
        if (target.exists() || !file.renameTo(target)) {
          delete(file);
        }
      } else if (name.startsWith(INCOMING)) {
        delete(file);
      }
    }
    BundleDownload.recover(shelf);
  }

  /**
   * Unpacks, checks and keeps a bundle; one of the same name is replaced.
   *
   * @param zip of the bundle's folder or of what is in it; read to its end, not closed.
   * @return its folder; null when the signal said to stop.
   * @throws EdgeModelException kind BUNDLE or CAPACITY: it is no whole bundle; the shelf is as it was.
   */
  public File run(InputStream zip) {
    File incoming = new File(shelf, INCOMING + System.nanoTime());
    if (!incoming.mkdirs()) {
      throw EdgeModelException.bundle(shelf + " cannot be written to; free some room");
    }
    try {
      if (!unpack(new ZipInputStream(zip), incoming)) {
        return null;
      }
      EdgeBundle bundle = new EdgeBundle(root(incoming));
      expectListed(bundle, bundle.folder, "", 0);
      bundle.verify();
      return signal.stops() ? null : keep(shelf, bundle);
    } catch (IOException | IllegalArgumentException error) { // the second of names that are not UTF-8
      throw new EdgeModelException(
          EdgeModelException.Kind.BUNDLE,
          "the bundle cannot be unpacked: " + error.getMessage() + "; export it again, or free some room",
          error);
    } finally {
      delete(incoming);
    }
  }

  private boolean unpack(ZipInputStream entries, File into) throws IOException {
    byte[] part = new byte[PART_BYTES];
    long total = 0;
    int files = 0;
    for (ZipEntry entry = entries.getNextEntry(); entry != null; entry = entries.getNextEntry()) {
      if (signal.stops()) {
        return false;
      }
      if (entry.isDirectory()) {
        if (entries.read(part) >= 0) { // else what it holds would be unpacked, and not counted, to pass it
          throw EdgeModelException.bundle("the zip has a folder with content; it is no bundle");
        }
        continue;
      }
      expectShort(entry.getName());
      EdgeBundle.expectName(entry.getName());
      File file = new File(into, entry.getName());
      File folder = file.getParentFile();
      if (++files > MOST_FILES || file.exists() || !folder.isDirectory() && !folder.mkdirs()) {
        throw EdgeModelException.bundle(
            "the zip has " + entry.getName() + " twice, or more than " + MOST_FILES
                + " files; it is no bundle");
      }
      try (FileOutputStream out = new FileOutputStream(file)) {
        for (int count = entries.read(part); count >= 0; count = entries.read(part)) {
          total += count;
          if (total > limitBytes) {
            throw EdgeModelException.capacity(
                "the bundle unpacks to more than " + (limitBytes >> 20) + " MiB; free some room, or choose a"
                    + " smaller one");
          }
          if (signal.stops()) {
            return false;
          }
          out.write(part, 0, count);
          if (progress != null) {
            progress.onBytes(total, -1);
          }
        }
        out.getFD().sync();
      }
    }
    return true;
  }

  /** Before a folder is made: thousands, one in the other, take seconds to make and to delete. */
  static void expectShort(String name) {
    if (name.length() > MOST_NAME || name.split("/", -1).length > MOST_DEPTH + 2) { // wrapped, and its own
      throw EdgeModelException.bundle(
          "there is the name " + name.substring(0, Math.min(name.length(), SHOWN_NAME))
              + ".., longer or deeper than any of a bundle; do not use it");
    }
  }

  /** The folder of the manifest: what was unpacked, or the one folder in it. */
  private static File root(File incoming) {
    File[] files = incoming.listFiles();
    boolean wrapped = files != null && files.length == 1 && files[0].isDirectory();
    return wrapped ? files[0] : incoming;
  }

  private static void expectListed(EdgeBundle bundle, File folder, String prefix, int depth) {
    File[] files = folder.listFiles();
    if (files == null || depth > MOST_DEPTH) {
      throw EdgeModelException.bundle("the folder " + prefix + " cannot be read; export the bundle again");
    }
    for (File file : files) {
      String name = prefix + file.getName();
      if (file.isDirectory()) {
        expectListed(bundle, file, name + "/", depth + 1);
      } else if (!bundle.manifest.files.containsKey(name)
          && !name.equals(EdgeBundle.MANIFEST)
          && !name.equals(EdgeBundle.CHAT_FORMAT)) {
        throw EdgeModelException.bundle(
            "the zip has " + name + ", which its manifest does not list; export the bundle alone");
      }
    }
  }

  /** Renames a checked bundle onto the shelf. */
  static File keep(File shelf, EdgeBundle bundle) throws IOException {
    String name = bundle.manifest.name.replaceAll("[^A-Za-z0-9._-]", "_").replaceAll("^\\.+", "");
    if (name.isEmpty()) {
      throw EdgeModelException.bundle("the manifest has no name that can be a folder's; convert it again");
    }
    File target = new File(shelf, name);
    for (int copy = 2; holdsAnother(target, bundle.manifest.name); copy++) {
      target = new File(shelf, name + "-" + copy);
    }
    File replaced = new File(shelf, REPLACED + target.getName());
    delete(replaced);
    boolean had = target.exists();
    if (had && !target.renameTo(replaced)) {
      throw new IOException(target + " cannot be replaced");
    }
    if (!bundle.folder.renameTo(target)) {
      if (had && !replaced.renameTo(target)) {
        throw new IOException(target + " cannot be put back");
      }
      throw new IOException(target + " cannot be made");
    }
    delete(replaced);
    return target;
  }

  /** Whether a folder has a bundle of another name, of which the folder's letters are all that is the same. */
  private static boolean holdsAnother(File folder, String name) {
    try {
      return new File(folder, EdgeBundle.MANIFEST).isFile() && !new EdgeBundle(folder).manifest.name.equals(name);
    } catch (EdgeModelException error) {
      return false; // damaged, or of another version: it is replaced
    }
  }

  static void delete(File file) {
    File[] files = file.listFiles();
    if (files != null) {
      for (File inner : files) {
        delete(inner);
      }
    }
    if (!file.delete() && file.exists()) {
      file.deleteOnExit(); // it is tried again by the next `recover`
    }
  }
}
