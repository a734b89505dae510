"""The LiteRT backend: `compiled` is the fast path, `interpreter` the fallback for old boards."""
