package edgemodel.bundle;

/** Token ids by role. */
public final class TokenizerRecord {
  static final String[] KEYS = {"bos_id", "eos_ids", "add_bos"};
  static final String[] UNREAD = {"bos_token", "eos_token"};

  /** Put before a plain prompt when `addBos`; null where there is none. */
  public final Integer bosId;

  /** Any of these ends an answer. */
  public final int[] eosIds;

  public final boolean addBos;

  private TokenizerRecord(JsonFields from) {
    bosId = from.optionalInteger("bos_id");
    eosIds = from.integers("eos_ids");
    addBos = from.bool("add_bos");
  }

  static TokenizerRecord read(JsonFields from) {
    from.expectKeys(KEYS, UNREAD);
    return new TokenizerRecord(from);
  }
}
