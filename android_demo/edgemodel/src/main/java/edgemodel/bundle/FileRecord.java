package edgemodel.bundle;

import edgemodel.EdgeModelException;

/** Digest and size of one file. */
public final class FileRecord {
  static final String[] KEYS = {"sha256", "size_bytes"};

  /** In lower-case hexadecimal digits. */
  public final String sha256;

  public final long sizeBytes;

  private FileRecord(String sha256, long sizeBytes) {
    this.sha256 = sha256;
    this.sizeBytes = sizeBytes;
  }

  static FileRecord read(JsonFields from) {
    from.expectKeys(KEYS);
    FileRecord record = new FileRecord(from.string("sha256"), from.longInteger("size_bytes"));
    if (!record.sha256.matches("[0-9a-f]{64}") || record.sizeBytes < 0) {
      throw EdgeModelException.bundle(from.path() + " is no digest and size; convert the bundle again");
    }
    return record;
  }
}
