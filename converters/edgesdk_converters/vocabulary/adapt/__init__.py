"""Another vocabulary for a checkpoint: a tokenizer of another language, and rows for its tokens."""
