package edgemodel.bundle;

import edgemodel.EdgeModelException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * The part of a bundle's manifest.json on which a step depends.
 *
 * <p>It follows edgesdk/bundle/manifest.py. A key that neither that file nor this package knows is refused.
 * `UNREAD` lists the keys that are known to matter to other readers only; tests/android_demo compares all
 * these lists with the Python side.
 */
public final class Manifest {
  /** The one schema that this library reads. */
  public static final int SUPPORTED_SCHEMA = 2;

  /** Far above any real manifest (tens of kilobytes), far below what hurts to parse. */
  static final int LIMIT_BYTES = 16 << 20;

  /** Far above what a bundle has. */
  static final int MOST_FILES = 10_000;

  static final String[] KEYS = {
    "schema_version", "name", "licence", "decoder", "tokenizer", "generation", "variants", "files", "adapters"
  };
  static final String[] UNREAD = {"created_by", "source", "vocabulary", "embedding"};

  public final String name;

  /** Null where the checkpoint says none. */
  public final String licence;

  public final DecoderShape decoder;
  public final TokenizerRecord tokenizer;
  public final GenerationDefaults generation;
  public final List<Variant> variants;

  /** By name, sorted. */
  public final Map<String, FileRecord> files;

  private Manifest(JsonFields from) {
    name = from.string("name");
    licence = from.optionalString("licence");
    decoder = DecoderShape.read(from.object("decoder"));
    tokenizer = TokenizerRecord.read(from.object("tokenizer"));
    generation = GenerationDefaults.read(from.object("generation"));
    List<Variant> variants = new ArrayList<Variant>();
    for (JsonFields variant : from.objects("variants")) {
      variants.add(Variant.read(variant, decoder));
    }
    this.variants = Collections.unmodifiableList(variants);
    JsonFields listed = from.object("files");
    Map<String, FileRecord> files = new TreeMap<String, FileRecord>();
    if (listed.names().size() > MOST_FILES) { // each is looked up among all
      throw EdgeModelException.bundle(
          "the manifest lists more than " + MOST_FILES + " files; it is not a manifest");
    }
    for (String file : listed.names()) {
      if (files.put(file, FileRecord.read(listed.object(file))) != null) {
        throw EdgeModelException.bundle("the manifest lists " + file + " twice; convert the bundle again");
      }
    }
    this.files = Collections.unmodifiableMap(files);
  }

  /**
   * Parses and checks a manifest.
   *
   * @throws EdgeModelException kind BUNDLE, naming the key.
   */
  public static Manifest parse(byte[] utf8) {
    if (utf8.length > LIMIT_BYTES) {
      throw EdgeModelException.bundle(
          "manifest.json is larger than " + (LIMIT_BYTES >> 20) + " MiB; it is not a manifest");
    }
    JsonFields fields = JsonFields.parse(utf8, "manifest");
    if (!fields.has("schema_version")) {
      throw EdgeModelException.bundle("manifest.json has no schema_version; it is not an edgesdk manifest");
    }
    int version = fields.integer("schema_version");
    if (version != SUPPORTED_SCHEMA) {
      throw EdgeModelException.bundle(
          "the bundle has manifest schema " + version + ", this app reads " + SUPPORTED_SCHEMA + "; "
              + (version > SUPPORTED_SCHEMA ? "update the app" : "convert the bundle again"));
    }
    fields.expectKeys(KEYS, UNREAD);
    Manifest manifest = new Manifest(fields);
    TokenizerRecord tokens = manifest.tokenizer;
    manifest.expectToken(tokens.bosId == null ? 0 : tokens.bosId.intValue());
    for (int token : tokens.eosIds) {
      manifest.expectToken(token);
    }
    return manifest;
  }

  private void expectToken(int token) {
    if (token < 0 || token >= decoder.vocabSize) {
      throw EdgeModelException.bundle("the manifest names token " + token + ", outside the vocabulary");
    }
  }
}
