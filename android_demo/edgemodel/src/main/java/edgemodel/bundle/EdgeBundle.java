package edgemodel.bundle;

import edgemodel.EdgeModelException;
import edgemodel.text.ByteLevelBpe;
import edgemodel.text.ChatFormat;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** An opened bundle: a folder and its manifest. Nothing else is read until it is asked for. */
public final class EdgeBundle {
  // Names that the converters use; tests/android_demo compares them with the Python side.
  static final String MANIFEST = "manifest.json";
  static final String TOKENIZER = "tokenizer.json";

  /** Written by ios_notes/prepare_bundle.py beside the manifest, which does not list it. */
  static final String CHAT_FORMAT = "chat_format.json";

  static final int CHAT_FORMAT_LIMIT_BYTES = 1 << 20;
  private static final int READ_BYTES = 1 << 20;

  public final File folder;
  public final Manifest manifest;

  /**
   * Opens the bundle in a folder.
   *
   * @throws EdgeModelException kind BUNDLE.
   */
  public EdgeBundle(File folder) {
    this.folder = folder;
    File file = new File(folder, MANIFEST);
    if (!file.isFile()) {
      throw EdgeModelException.bundle(folder.getName() + " has no manifest.json; copy the whole bundle");
    }
    manifest = Manifest.parse(read(file, Manifest.LIMIT_BYTES));
  }

  /**
   * Where a listed file lies; its size is compared with the manifest's.
   *
   * @throws EdgeModelException kind BUNDLE: it is not listed, leads out of the bundle, is absent or cut short.
   */
  public File file(String name) {
    FileRecord record = manifest.files.get(name);
    if (record == null) {
      throw EdgeModelException.bundle(name + " is not a file of the bundle; see its manifest.json");
    }
    expectName(name);
    File file = new File(folder, name);
    if (!file.isFile()) {
      throw EdgeModelException.bundle("the bundle lacks " + name + ", which it lists; copy it again");
    }
    if (file.length() != record.sizeBytes) {
      throw EdgeModelException.bundle(
          name + " has " + file.length() + " bytes, the manifest says " + record.sizeBytes + "; copy it again");
    }
    return file;
  }

  /** Refuses names that do not stay within a bundle. */
  public static void expectName(String name) {
    boolean odd = name.indexOf('\\') >= 0 || name.indexOf('\0') >= 0 || name.indexOf(':') >= 0;
    for (String part : name.split("/", -1)) {
      odd = odd || part.isEmpty() || part.equals(".") || part.equals("..");
    }
    if (odd) {
      throw EdgeModelException.bundle(name + " is no name within a bundle; do not use this bundle");
    }
  }

  /**
   * The variant of a format that this library runs.
   *
   * @param format such as onnx-step or litert.
   * @param name null for the first of the format.
   * @throws EdgeModelException kind BUNDLE: there is none that this library runs.
   */
  public Variant variant(String format, String name) {
    StringBuilder all = new StringBuilder();
    for (Variant variant : manifest.variants) {
      if (variant.format.equals(format) && (name == null || variant.name.equals(name))) {
        expectRunnable(variant);
        return variant;
      }
      all.append(all.length() == 0 ? "" : ", ").append(variant.name);
    }
    throw EdgeModelException.bundle(
        "the bundle has no variant of the format " + format + (name == null ? "" : " named " + name)
            + "; it has: " + all);
  }

  private static void expectRunnable(Variant variant) {
    if (!variant.cellType.equals("float32")) {
      throw EdgeModelException.bundle(
          "variant " + variant.name + " has " + variant.cellType + " cells, expected float32; convert another");
    }
    if (variant.decoder.partialHead) {
      throw EdgeModelException.bundle(
          "variant " + variant.name + " has a head for some tokens only, which this library lacks; prune the"
              + " whole vocabulary");
    }
    if (variant.mainSteps.isEmpty()) {
      throw EdgeModelException.bundle("variant " + variant.name + " has no step sizes; convert the bundle again");
    }
  }

  /**
   * The tokenizer, loaded.
   *
   * @throws EdgeModelException kind TOKENIZER, naming a feature that is not there.
   */
  public ByteLevelBpe tokenCoder() {
    return new ByteLevelBpe(read(file(TOKENIZER), ByteLevelBpe.LIMIT_BYTES));
  }

  /** How the model wants chats written; null when prepare_bundle.py left no chat_format.json. */
  public ChatFormat chatFormat() {
    File file = new File(folder, CHAT_FORMAT);
    return file.isFile() ? ChatFormat.parse(read(file, CHAT_FORMAT_LIMIT_BYTES)) : null;
  }

  /**
   * Hashes every listed file: seconds for a large model, so once after an import, not at each start.
   *
   * @throws EdgeModelException kind BUNDLE, naming the first file that differs.
   */
  public void verify() {
    for (String name : manifest.files.keySet()) {
      if (!isWhole(name)) {
        throw notDescribed(name);
      }
    }
  }

  /** Whether a listed file has the manifest's digest. */
  boolean isWhole(String name) {
    return sha256(file(name)).equals(manifest.files.get(name).sha256);
  }

  static EdgeModelException notDescribed(String name) {
    return EdgeModelException.bundle(name + " is not the file that the manifest describes; copy it again");
  }

  private static String sha256(File file) {
    MessageDigest digest;
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error); // every Java has it
    }
    byte[] part = new byte[READ_BYTES];
    try (InputStream stream = new FileInputStream(file)) {
      for (int count = stream.read(part); count >= 0; count = stream.read(part)) {
        digest.update(part, 0, count);
      }
    } catch (IOException error) {
      throw unreadable(file, error);
    }
    StringBuilder text = new StringBuilder();
    for (byte value : digest.digest()) {
      text.append(Character.forDigit(value >> 4 & 15, 16)).append(Character.forDigit(value & 15, 16));
    }
    return text.toString();
  }

  private static byte[] read(File file, int limitBytes) {
    long size = file.length();
    if (size > limitBytes) {
      throw EdgeModelException.bundle(
          file.getName() + " has " + size + " bytes, expected at most " + limitBytes + "; it is damaged");
    }
    byte[] data = new byte[(int) size];
    try (DataInputStream stream = new DataInputStream(new FileInputStream(file))) {
      stream.readFully(data);
    } catch (IOException error) {
      throw unreadable(file, error);
    }
    return data;
  }

  private static EdgeModelException unreadable(File file, IOException error) {
    return new EdgeModelException(
        EdgeModelException.Kind.BUNDLE,
        file.getName() + " cannot be read: " + error.getMessage() + "; copy the bundle again",
        error);
  }
}
